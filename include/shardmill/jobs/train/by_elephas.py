"""Training by Elephas: rows of records in Spark's memory, and weights that Spark carries to the driver."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from shardmill.adapters import elephas_training
from shardmill.adapters.keras_models import build_model, compile_model, model_level, named_weights
from shardmill.adapters.model_export import export_model
from shardmill.adapters.model_store import put_weights
from shardmill.adapters.records import read_records
from shardmill.adapters.spark_session import Row, keep, record_rows
from shardmill.core.ablations import FrameSums, no_sums, sum_record
from shardmill.core.planning import BadRequestError
from shardmill.specs.record_rejects import RejectTally
from shardmill.specs.training_run import TrainedModel

if TYPE_CHECKING:
    from pyspark import SparkContext

    from shardmill.jobs.train.trainers import Training


def _pair(row: Row) -> tuple[Any, Any]:
    return row.frames, row.truth


def _sum_rows(rows: Iterable[Row]) -> Iterator[FrameSums]:
    each = (sum_record(row.frames, row.truth) for row in rows)
    if (first := next(each, None)) is not None:
        yield sum(each, start=first)


def train_rows(context: SparkContext, training: Training) -> tuple[TrainedModel, str]:
    """Train on rows that executors keep. Returns the model, and what trained it, in words."""
    spec, records = training.spec, training.records
    labels = len(records.vocabulary)
    model = compile_model(build_model(labels, spec), spec)
    if model_level(model) != "frame":
        raise BadRequestError(f"model: elephas trains models of frames here, found {spec.model}: take another trainer")
    train, validation = (
        keep(record_rows(context, parts, records, read_records=read_records, partitions=spec.workers, seed=spec.seed))
        for parts in (records.train, records.validation)
    )
    sums = train.mapPartitions(_sum_rows).fold(no_sums(labels), FrameSums.__add__)
    training.say(f"loaded {sums.records} records of {sums.frames} frames for {spec.workers} workers")
    rows = elephas_training.TrainingRows(train.map(_pair), validation.map(_pair))
    trained = elephas_training.train(model, rows, spec, training.say)
    if not all(np.isfinite(weight).all() for weight in trained.weights):
        raise FloatingPointError(
            f"training diverged: weights are not finite. Take a learning_rate below {spec.learning_rate}"
        )
    model.set_weights(trained.weights)
    means = {"mean.rgb": sums.means.rgb, "mean.audio": sums.means.audio}
    key, sha256 = put_weights(training.store, {**named_weights(model), **means})
    told = TrainedModel(
        weights=key,
        weights_sha256=sha256,
        exports=export_model(training.store, model, records.vocabulary),
        parameters=sum(weight.size for weight in trained.weights),
        records=sums.records,
        label_counts=tuple(int(count) for count in sums.labels),
        history=trained.history,
        seconds=round(trained.seconds, 3),
        examples=sums.records * spec.epochs,
        rejects=RejectTally(),
    )
    return told, trained.trainer
