"""What a worker is given: the training as a value, and the tools that it works with."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from shardmill.core.ablations import FrameSums
from shardmill.core.rules import Vector
from shardmill.core.worker_shares import PartSlice
from shardmill.specs.checkpoint import Checkpoint
from shardmill.specs.record_rejects import RejectTally
from shardmill.specs.records import EpochLoss, Export
from shardmill.specs.training import TrainSpec

Level = Literal["frame", "video"]


class Batch(Protocol):
    """Some videos; ``record_batches`` says more."""

    @property
    def frames(self) -> npt.NDArray[Any]: ...
    @property
    def truth(self) -> npt.NDArray[np.float32]: ...
    @property
    def records(self) -> int: ...


class Step(Protocol):
    """A worker's compiled step; ``train_step`` says more."""

    size: int
    steps: int

    def weights(self) -> Vector: ...
    def set_weights(self, flat: Vector) -> None: ...
    def moments(self) -> Vector: ...
    def set_moments(self, flat: Vector, steps: int) -> None: ...
    def step(self, batch: Any, learning_rate: float) -> float: ...
    def gradient(self, batch: Any) -> tuple[Vector, float]: ...
    def apply(self, gradient: Vector, learning_rate: float) -> None: ...
    def score(self, frames: Any) -> npt.NDArray[np.float32]: ...
    def set_label_weights(self, weights: npt.NDArray[np.float32]) -> None: ...


class Feed(Protocol):
    """A worker's share of records; ``record_batches`` says more."""

    @property
    def rejects(self) -> RejectTally: ...
    def epoch(
        self, epoch: int, *, skip: int = 0, passed: Callable[[int], None] = ...
    ) -> Generator[Any, None, None]: ...


class EventLog(Protocol):
    """TensorBoard's log of a training."""

    def add(self, done: EpochLoss) -> None: ...


@dataclass(frozen=True)
class Published:
    """What rank 0 put into the run's folder."""

    weights: str
    weights_sha256: str
    parameters: int
    exports: tuple[Export, ...]


@dataclass(frozen=True, eq=False)
class Learner:
    """A model in a worker's process."""

    step: Step
    level: Level
    """What records it learns of."""
    publish: Callable[[FrameSums], Published]
    """Puts the weights that the step has, and what belongs to them, into the run's folder."""
    told: str = ""
    """What is worth a word about the step."""


@dataclass(frozen=True)
class Tools:
    """What a worker works with, made in its own process; functions of modules, for Spark ships them by name."""

    learner: Callable[[TrainingJob, int], Learner]
    """Of a rank."""
    feed: Callable[[TrainingJob, tuple[PartSlice, ...], FeedPlan], Feed]
    events: Callable[[TrainingJob], AbstractContextManager[EventLog]]
    prepare: Callable[[], object]
    """Imports what takes seconds, in a thread of its own while the workers meet."""


@dataclass(frozen=True)
class FeedPlan:
    """How a share is read."""

    rank: int
    level: Level
    shuffle: bool


@dataclass(frozen=True)
class TrainingJob:
    """All that decides a training, the same for every worker of an attempt."""

    spec: TrainSpec
    inputs: str
    folder: str
    """URI of the run's folder."""
    vocabulary: tuple[str, ...]
    max_frames: int
    level: Level
    """What the records are."""
    train: tuple[tuple[PartSlice, ...], ...]
    """Each rank's share."""
    validation: tuple[tuple[PartSlice, ...], ...]
    tools: Tools
    max_reject_share: float = 0.0
    """Largest share of the training records that may be rejects, 0 to 1."""
    attempt: str = ""
    """Drawn by the driver for each attempt."""
    token: bytes = b""
    """What workers prove to one another."""
    resume: Checkpoint | None = None

    @property
    def records(self) -> int:
        """Training records."""
        return sum(piece.stop - piece.start for share in self.train for piece in share)

    def __post_init__(self) -> None:
        ranks = self.spec.ranks
        if (len(self.train), len(self.validation)) != (ranks, ranks):
            raise ValueError(f"expected shares for {ranks} ranks, found {len(self.train)} and {len(self.validation)}")
