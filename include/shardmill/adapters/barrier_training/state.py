"""What a worker knows beside what its model holds, and both as plain vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from shardmill.adapters.barrier_training.job import Step
from shardmill.core.ablations import FrameSums, no_sums
from shardmill.core.rules import Vector
from shardmill.specs.records import EpochLoss


@dataclass
class RankState:
    """What a worker knows beside what its step holds."""

    sums: FrameSums
    """Over this rank's records of the first epoch so far; once it is done, over all ranks'."""
    epoch: int = 0
    """Epochs that are done."""
    position: int = 0
    """Batches of the running epoch that are done."""
    examples: int = 0
    """Seen by all ranks in all epochs, up to the last exchange."""
    loss: float = 0.0
    """Sum over this rank's examples of the running epoch."""
    counted: int = 0
    """Their number."""
    seconds: float = 0.0
    """Spent in epochs, the running one's up to its last checkpoint included."""
    history: list[EpochLoss] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: Vector | None = None
    """Of the epoch with the lowest validation loss, where training may end early."""


def state_vector(step: Step) -> Vector:
    """Give weights and moments as one vector, float32 [3 × parameters]."""
    return np.concatenate([step.weights(), step.moments()])


def set_state_vector(step: Step, vector: Vector) -> None:
    """Set weights and moments; the number of steps, by which Adam corrects the moments' bias, stays."""
    step.set_weights(vector[: step.size])
    step.set_moments(vector[step.size :], step.steps)


def sums_vector(sums: FrameSums) -> npt.NDArray[np.int64]:
    """Give sums as one vector, which adds up as they do."""
    return np.concatenate([np.array([sums.records, sums.frames], np.int64), sums.values, sums.labels])


def sums_of(vector: npt.NDArray[np.int64], labels: int) -> FrameSums:
    """Take sums from their vector."""
    return FrameSums(int(vector[0]), int(vector[1]), vector[2:-labels], vector[-labels:])


def sum_batch(sums: FrameSums, batch: Any, labels: int) -> FrameSums:
    """Add a batch's videos; at video level, where features are no bytes, their records and labels only."""
    frames, truth = batch.frames[: batch.records], batch.truth[: batch.records]
    added = no_sums(labels)
    values, count = added.values, 0
    if frames.ndim == 3:
        rows = frames.reshape(-1, frames.shape[-1])
        values, count = rows.sum(axis=0, dtype=np.int64), int(rows.any(axis=1).sum())
    return sums + FrameSums(batch.records, count, values, truth.sum(axis=0).astype(np.int64))
