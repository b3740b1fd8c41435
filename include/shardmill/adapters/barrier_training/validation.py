"""Validation: every worker scores its share, and the sums of the metrics are merged along the ring."""

from __future__ import annotations

from contextlib import closing

import numpy as np

from shardmill.adapters.barrier_training.job import Step
from shardmill.adapters.barrier_training.place import Place
from shardmill.core.metric_sums import MetricSums
from shardmill.specs.records import EpochLoss

MEASURED = ("validation_loss", "validation_gap", "validation_map", "validation_hit_at_1", "validation_perr")
"""Fields of an epoch, in the order in which rank 0 tells them to all."""


def _merge(before: bytes, own: bytes) -> bytes:
    return (MetricSums.from_bytes(before) + MetricSums.from_bytes(own)).to_bytes()


def validate(place: Place, step: Step, labels: int, rate: float) -> dict[str, float]:
    """Measure the model that every worker holds; the same on every worker, by the names in MEASURED.

    Raises:
        FloatingPointError: weights or scores are not finite.
    """
    if not np.isfinite(step.weights()).all():
        raise FloatingPointError(f"training diverged: weights are not finite. Take a learning_rate below {rate}")
    sums = MetricSums(labels)
    with closing(place.validation.epoch(0)) as batches:
        for number, batch in enumerate(batches):
            scores = step.score(batch.frames)[: batch.records]
            if not np.isfinite(scores).all():
                raise FloatingPointError(f"training diverged: scores are not finite. Take a learning_rate below {rate}")
            sums.add(scores, batch.truth[: batch.records])
            place.watch.mark(f"batch {number} of validation")
    row = np.zeros(len(MEASURED))
    with place.watch.elsewhere():
        merged = place.ring.fold(sums.to_bytes(), _merge)
        if place.ring.rank == 0:
            found = MetricSums.from_bytes(merged).finish()
            row = np.array([found.loss, found.gap, found.map or 0.0, found.hit_at_1, found.perr])
        rows = place.ring.gather(row)
    return dict(zip(MEASURED, (float(value) for value in rows[0]), strict=True))


def improves(measured: dict[str, float], history: list[EpochLoss]) -> bool:
    """Tell whether the validation loss is the lowest so far."""
    before = [done.validation_loss for done in history if done.epoch > 0 and done.validation_loss is not None]
    return measured["validation_loss"] < min(before, default=float("inf"))
