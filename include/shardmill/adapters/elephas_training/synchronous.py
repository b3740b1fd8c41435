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
    measured_losses,
    model_text,
    progress_line,
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

    history = [measured_losses(0, rows, text, weights)]
    report(progress_line(history[0], spec.epochs))
    seconds = 0.0
    for epoch in range(1, spec.epochs + 1):
        start = time.monotonic()
        config = {"epochs": 1, "batch_size": spec.worker_batch_size, "verbose": 0, "seed": spec.seed, "epoch": epoch}
        weights = elephas_model.train_epoch(rows, text, weights, config)
        seconds += time.monotonic() - start
        losses = tuple(elephas_model.training_histories[-1])
        done = EpochLoss(
            epoch=epoch,
            loss=sum(losses) / len(losses),
            validation_loss=mean_loss(rows.validation, text, weights),
            worker_losses=losses,
        )
        history.append(done)
        report(progress_line(done, spec.epochs))
    return Trained(weights, tuple(history), f"{ELEPHAS}, synchronous, a mean after every epoch", seconds)
