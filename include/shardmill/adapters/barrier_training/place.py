"""Where a worker stands: its ring, its share, its watch, and what it writes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from shardmill.adapters.barrier_training.job import Feed
from shardmill.adapters.barrier_training.reporting import Telling
from shardmill.adapters.barrier_training.watch import Watch
from shardmill.specs.checkpoint import ArrayFile, Checkpoint
from shardmill.specs.record_rejects import RejectTally

Number = TypeVar("Number", np.float32, np.float64, np.int64)


class Ring(Protocol):
    """All workers of a training; ``adapters.ring`` says more."""

    rank: int
    size: int
    silent_seconds: float

    def sum(self, values: npt.NDArray[Number]) -> npt.NDArray[Number]: ...
    def gather(self, row: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]: ...
    def fold(self, own: bytes, merge: Callable[[bytes, bytes], bytes]) -> bytes: ...
    def close(self) -> None: ...


class Checkpoints(Protocol):
    """The checkpoints of a training; ``adapters.checkpoints`` says more."""

    def put_arrays(self, arrays: Mapping[str, npt.NDArray[Any]]) -> ArrayFile: ...
    def arrays(self, file: ArrayFile) -> dict[str, npt.NDArray[Any]]: ...
    def put(self, checkpoint: Checkpoint) -> None: ...
    def latest(self, say: Callable[[str], None]) -> Checkpoint | None: ...
    def remove_orphans(self) -> None: ...


@dataclass(frozen=True, eq=False)
class Place:
    """What a worker works with beside its model."""

    ring: Ring
    watch: Watch
    checkpoints: Checkpoints
    train: Feed
    validation: Feed
    telling: Telling | None
    """At rank 0."""


def merged_rejects(place: Place) -> RejectTally:
    """Give at rank 0 what no worker could use of the training records so far; elsewhere a part of it."""
    return RejectTally.model_validate_json(
        place.ring.fold(place.train.rejects.model_dump_json().encode(), _merge_rejects)
    )


def _merge_rejects(before: bytes, own: bytes) -> bytes:
    both = RejectTally.model_validate_json(before).beside(RejectTally.model_validate_json(own))
    return both.model_dump_json().encode()
