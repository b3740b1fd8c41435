"""What a training tells while it runs and when it ends."""

from __future__ import annotations

from pydantic import Field

from shardmill.specs.record_rejects import RejectTally
from shardmill.specs.records import EpochLoss, Export
from shardmill.specs.value import Sealed, Spec


class TrainingHistory(Sealed):
    """The epochs so far, stored as ``history.json`` in the run's folder while training goes."""

    inputs: str
    """Short hash of what the model is trained with."""
    epochs: tuple[EpochLoss, ...]


class Progress(Sealed):
    """Lines for people, which rank 0 leaves for the driver as ``training/progress.json``."""

    attempt: str
    first: int = Field(ge=0)
    """Number of the first line that is held."""
    lines: tuple[str, ...]


class RankFailure(Sealed):
    """Why a worker ended, left for the driver in ``training/failures/``."""

    attempt: str
    rank: int = Field(ge=0)
    error: str
    """Name of the error's class."""
    message: str
    is_final: bool
    """Whether another attempt would end in the same way."""
    is_cause: bool
    """Whether it ended by itself, not because another worker was lost."""
    log: tuple[str, ...]
    """Its last lines."""


class TrainedModel(Spec):
    """What a training published."""

    weights: str
    """Key of the .npz with the weights."""
    weights_sha256: str
    exports: tuple[Export, ...]
    parameters: int = Field(ge=1)
    records: int = Field(ge=1)
    """Training records that were used."""
    label_counts: tuple[int, ...]
    history: tuple[EpochLoss, ...]
    seconds: float
    """Wall seconds of the epochs, without start-up and validation."""
    examples: int
    """Seen in those seconds by all workers."""
    rejects: RejectTally
