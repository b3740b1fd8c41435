"""Synchronous training: after every epoch the weights of all workers are averaged."""

from __future__ import annotations

import time

import keras
from elephas.spark_model import SparkModel
from elephas.utils.functional_utils import average_and_subtract

from shardmill.adapters.elephas_training.workers import (
    ELEPHAS,
    KeepingWorker,
    ModelText,
    Report,
    Trained,
    TrainingRows,
    Weights,
    mean_loss,
    model_text,
)
from shardmill.specs.records import EpochLoss
from shardmill.specs.training import TrainSpec


class SynchronousModel(SparkModel):
    """Elephas' synchronous model, epoch by epoch."""

    def train_epoch(self, rows: TrainingRows, text: ModelText, weights: Weights, config: dict[str, int]) -> Weights:
        """Let every worker train an epoch from the same weights; give the mean of theirs."""
        parameters = rows.train.context.broadcast(weights)
        try:
            worker = KeepingWorker(text.model, parameters, config, text.optimizer, text.loss, [], {})
            outcomes = rows.train.mapPartitions(worker.train).collect()
        finally:
            parameters.destroy()
        self.training_histories.append([history["loss"][-1] for _, history in outcomes])
        return list(average_and_subtract(weights, [delta for delta, _ in outcomes]))


def train_synchronously(model: keras.Model, rows: TrainingRows, spec: TrainSpec, report: Report) -> Trained:
    """Train with a mean after every epoch; the same spec and records give the same weights on the same machines."""
    elephas_model, text = SynchronousModel(model), model_text(model)
    weights: Weights = model.get_weights()

    def measure(which: str) -> float | None:
        return mean_loss(getattr(rows, which), text, weights)

    history = [EpochLoss(epoch=0, loss=measure("train") or 0.0, validation_loss=measure("validation"))]
    report(f"epoch 0/{spec.epochs}: loss {history[0].loss:.4f} before training")
    seconds = 0.0
    for epoch in range(1, spec.epochs + 1):
        start = time.monotonic()
        config = {"epochs": 1, "batch_size": spec.batch_size, "verbose": 0, "seed": spec.seed, "epoch": epoch}
        weights = elephas_model.train_epoch(rows, text, weights, config)
        seconds += time.monotonic() - start
        losses = tuple(elephas_model.training_histories[-1])
        done = EpochLoss(
            epoch=epoch,
            loss=sum(losses) / len(losses),
            validation_loss=measure("validation"),
            worker_losses=losses,
        )
        history.append(done)
        report(progress_line(done, spec.epochs))
    return Trained(weights, tuple(history), f"{ELEPHAS}, synchronous, a mean after every epoch", seconds)


def progress_line(done: EpochLoss, epochs: int) -> str:
    """Write an epoch's losses in a line."""
    validation = "" if done.validation_loss is None else f", validation loss {done.validation_loss:.4f}"
    return f"epoch {done.epoch}/{epochs}: loss {done.loss:.4f}{validation}"
