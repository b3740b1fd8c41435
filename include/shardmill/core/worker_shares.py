"""Shares: which records of which parts a worker reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from shardmill.specs.records import RecordPart


@dataclass(frozen=True)
class PartSlice:
    """Some consecutive records of a part."""

    part: RecordPart
    start: int
    stop: int


def worker_shares(parts: Sequence[RecordPart], workers: int, seed: int = 0) -> list[tuple[PartSlice, ...]]:
    """Deal the records to the workers: each is dealt once, and no share is more than one record larger than another.

    Parts come in an order drawn by the seed, and each worker gets a stretch of them: it reads little that it does
    not need, and no record travels between workers.
    """
    order = np.random.default_rng(seed).permutation(len(parts))
    ordered = [parts[index] for index in order]
    total = sum(part.records for part in ordered)
    bounds = [total * worker // workers for worker in range(workers + 1)]
    return [_stretch(ordered, first, last) for first, last in pairwise(bounds)]


def _stretch(parts: Sequence[RecordPart], first: int, last: int) -> tuple[PartSlice, ...]:
    slices, offset = [], 0
    for part in parts:
        start, stop = max(first - offset, 0), min(last - offset, part.records)
        if start < stop:
            slices.append(PartSlice(part, start, stop))
        offset += part.records
    return tuple(slices)


def check_shares(parts: Sequence[RecordPart], workers: int, batch_size: int) -> None:
    """Raise ValueError where a worker would get no more records than a batch holds.

    Elephas does not train such a worker, says nothing, and averages its untrained weights into the result.
    """
    total = sum(part.records for part in parts)
    if total // workers <= batch_size:
        fitting = max(total // workers - 1, 0)
        raise ValueError(
            f"each worker needs more training records than batch_size={batch_size}: {total} records for "
            f"workers={workers} leave {total // workers} to one of them. "
            + (f"Take batch_size={fitting} or fewer workers." if fitting else "Take fewer workers or more videos.")
        )
