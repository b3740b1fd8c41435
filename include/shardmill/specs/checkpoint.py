"""A training as it was at one moment, from which it can go on."""

from __future__ import annotations

from pydantic import Field

from shardmill.specs.records import EpochLoss
from shardmill.specs.value import Sealed, Spec


class ArrayFile(Spec):
    """An .npz in the run's folder, named by its content."""

    key: str
    sha256: str


class Checkpoint(Sealed):
    """A training at a moment when its workers had exchanged; its arrays lie beside it."""

    inputs: str
    """Short hash of what the model is trained with; another training does not go on from here."""
    seed: int
    """Of the weights and of the order of examples."""
    epoch: int = Field(ge=0)
    """Epochs that are done."""
    positions: tuple[int, ...]
    """Batches of the running epoch that each rank has done."""
    steps: tuple[int, ...]
    """Steps that each rank's optimizer has taken."""
    examples: int = Field(ge=0)
    """Seen by all ranks in all epochs."""
    epoch_losses: tuple[tuple[float, int], ...]
    """Of each rank: the sum of the losses of the running epoch's examples, and their number."""
    arrays: tuple[ArrayFile, ...]
    """State of each rank, or one file where all have the same."""
    history: tuple[EpochLoss, ...]
    best_epoch: int = Field(0, ge=0)
    """The epoch with the lowest validation loss."""
    seconds: float = Field(ge=0)
    """Trained so far."""
