"""Elephas: a Keras model trained by Spark's workers, with what has to be mended in it for that.

Elephas' are the averaging, the asynchronous workers, and the parameter server with its protocol. Ours are synchronous
workers that keep their traced model from epoch to epoch (tracing takes seconds, an epoch of a small set less than one),
calls with a time limit, and a server without Flask's debugger that cannot outlive the driver.
"""

from __future__ import annotations

import keras

from shardmill.adapters.elephas_training.asynchronous import train_asynchronously
from shardmill.adapters.elephas_training.synchronous import train_synchronously
from shardmill.adapters.elephas_training.workers import Report, Trained, TrainingRows
from shardmill.specs.training import TrainSpec

RULES = {
    "synchronous": train_synchronously,
    "asynchronous": train_asynchronously,
    "hogwild": train_asynchronously,
}
"""How workers combine their weights, by the spec's mode."""


def train(model: keras.Model, rows: TrainingRows, spec: TrainSpec, report: Report) -> Trained:
    """Train a compiled model; each partition of ``rows.train`` is a worker's.

    Args:
        report: takes a line of progress.
    """
    return RULES[spec.mode](model, rows, spec, report)
