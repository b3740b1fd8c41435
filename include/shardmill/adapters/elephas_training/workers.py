"""What runs on the executors: a worker that keeps its model, and a meter of the loss."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from itertools import islice
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from elephas.utils import subtract_params
from elephas.worker import SparkWorker
from pyspark import RDD, TaskContext

from shardmill.core.frames import fill_batch
from shardmill.core.metrics import binary_cross_entropy
from shardmill.specs.records import EpochLoss

Weights = list[npt.NDArray[np.float32]]
Pair = tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]
Report = Callable[[str], None]

METER_BATCH = 32
ELEPHAS = f"elephas {version('elephas')}"


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """Rows (frames, truth) for training, one partition a worker, and for measuring."""

    train: RDD[Pair]
    validation: RDD[Pair]


@dataclass(frozen=True, eq=False)
class Trained:
    """What training gave."""

    weights: Weights
    history: tuple[EpochLoss, ...]
    trainer: str
    seconds: float


@dataclass(frozen=True)
class ModelText:
    """A compiled model without its weights, as text: what a process keeps its model under."""

    model: str
    optimizer: str
    loss: str


def model_text(model: keras.Model) -> ModelText:
    """Write a compiled model down."""
    return ModelText(model.to_json(), json.dumps(keras.optimizers.serialize(model.optimizer)), model.loss)


@lru_cache(maxsize=1)
def _kept_model(text: ModelText) -> keras.Model:
    model = keras.models.model_from_json(text.model)
    optimizer = keras.optimizers.deserialize(json.loads(text.optimizer))
    model.compile(optimizer=optimizer, loss=text.loss, jit_compile=False)
    optimizer.build(model.trainable_variables)
    return model


def _forget(optimizer: keras.optimizers.Optimizer) -> None:
    # Elephas gives every epoch a new optimizer, and so does this: a task gives the same on whatever worker it runs.
    for variable in optimizer.variables:
        if not variable.path.endswith("learning_rate"):
            variable.assign(np.zeros(variable.shape, dtype=str(variable.dtype)))


def _partition() -> int:
    task = TaskContext.get()
    return task.partitionId() if task else 0


def _stacked(rows: Iterable[Pair]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    frames, truth = zip(*rows, strict=True)
    return np.stack(frames), np.stack(truth)


class KeepingWorker(SparkWorker):
    """Elephas' synchronous worker, but one that keeps its model between epochs."""

    def train(self, rows: Iterable[Pair]) -> Iterator[tuple[Weights, dict[str, list[float]]]]:
        """Train an epoch; yield what to subtract from the weights, and the losses."""
        frames, truth = _stacked(rows)
        config = dict(self.train_config)
        seeds = [config.pop("seed"), config.pop("epoch"), _partition()]
        order = np.random.default_rng(seeds).permutation(len(frames))
        model = _kept_model(ModelText(self.json, self.master_optimizer, self.master_loss))
        _forget(model.optimizer)
        model.set_weights(self.parameters.value)
        before = model.get_weights()
        history = model.fit(frames[order], truth[order], shuffle=False, **config)
        yield subtract_params(before, model.get_weights()), history.history


@dataclass(frozen=True, eq=False)
class _LossMeter:
    text: ModelText
    parameters: Any

    def __call__(self, rows: Iterable[Pair]) -> Iterator[tuple[int, float]]:
        model = _kept_model(self.text)
        model.set_weights(self.parameters.value)
        remaining = iter(rows)
        while batch := list(islice(remaining, METER_BATCH)):
            frames, truth = _stacked(batch)
            # Keras' evaluate would trace another graph for every size of the last batch, a second each.
            scores = np.asarray(model.predict_on_batch(fill_batch(frames, METER_BATCH))[: len(batch)])
            yield len(batch), binary_cross_entropy(scores, truth > 0)


def mean_loss(rows: RDD[Pair], text: ModelText, weights: Weights) -> float:
    """Measure the loss over rows on the executors."""
    parameters = rows.context.broadcast(weights)
    try:
        measured = rows.mapPartitions(_LossMeter(text, parameters)).collect()
    finally:
        parameters.destroy()
    return sum(count * loss for count, loss in measured) / sum(count for count, _ in measured)


def measured_losses(epoch: int, rows: TrainingRows, text: ModelText, weights: Weights) -> EpochLoss:
    """Measure both losses after an epoch."""
    return EpochLoss(
        epoch=epoch,
        loss=mean_loss(rows.train, text, weights),
        validation_loss=mean_loss(rows.validation, text, weights),
    )


def progress_line(done: EpochLoss, epochs: int) -> str:
    """Write an epoch's losses in a line."""
    validation = "" if done.validation_loss is None else f", validation loss {done.validation_loss:.4f}"
    return f"epoch {done.epoch}/{epochs}: loss {done.loss:.4f}{validation}"
