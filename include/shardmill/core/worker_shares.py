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
