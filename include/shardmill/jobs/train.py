"""Train a run's model on its records and publish it. Runs on the cluster, inside spark-submit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from shardmill.adapters.model_store import find_model, publish_model, put_weights
from shardmill.adapters.records import read_records
from shardmill.adapters.run_folder import load_run
from shardmill.adapters.store import Store, read_sealed
from shardmill.core.ablations import FrameSums, no_sums, sum_record
from shardmill.core.planning import check_enough_records
from shardmill.specs.records import MODEL_VERSION, ModelManifest, RecordSet, model_inputs
from shardmill.specs.run import RunSpec
from shardmill.specs.training import TrainSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyspark import SparkContext

    from shardmill.adapters.elephas_training import Trained
    from shardmill.adapters.spark_session import Row


def say(line: str) -> None:
    """Write a line of progress at once: the step's log is followed live."""
    print(line, flush=True)


def _pair(row: Row) -> tuple[Any, Any]:
    return row.frames, row.truth


def _sum_rows(rows: Iterable[Row]) -> Iterator[FrameSums]:
    each = (sum_record(row.frames, row.truth) for row in rows)
    if (first := next(each, None)) is not None:
        yield sum(each, start=first)


def train(run: RunSpec, store: Store) -> ModelManifest:
    """Train the model of a run, unless its folder holds it.

    Args:
        store: the run's folder.
    """
    from shardmill.adapters.spark_session import spark_context

    spec = run.asked.training
    records = read_sealed(store, "records.json", RecordSet)
    inputs = model_inputs(spec, records)
    if found := find_model(store, inputs):
        say(f"already trained: {store.uri_of(found.weights)}")
        return found
    counts = {name: sum(part.records for part in getattr(records, name)) for name in ("train", "validation")}
    check_enough_records(counts, workers=spec.workers, batch_size=spec.batch_size)
    # A second try of an asynchronous task would add its first try's steps again.
    with spark_context(f"train {run.run}", task_tries=4 if spec.mode == "synchronous" else 1) as context:
        arrays, sums, trained = _train(context, records, spec)
    manifest = _describe(records, spec, sums, trained, put_weights(store, arrays))
    say(f"trained {sums.records} records, {spec.epochs} epochs: {manifest.examples_per_second} examples/s")
    return publish_model(store, manifest)


def _describe(
    records: RecordSet, spec: TrainSpec, sums: FrameSums, trained: Trained, weights: tuple[str, str]
) -> ModelManifest:
    return ModelManifest(
        inputs=model_inputs(spec, records),
        model_version=MODEL_VERSION,
        training=spec,
        vocabulary=records.vocabulary,
        records=records.digest,
        train_records=sums.records,
        label_counts=tuple(int(count) for count in sums.labels),
        weights=weights[0],
        weights_sha256=weights[1],
        parameters=sum(weight.size for weight in trained.weights),
        trainer=trained.trainer,
        history=trained.history,
        seconds=round(trained.seconds, 3),
        examples_per_second=round(sums.records * spec.epochs / trained.seconds, 1),
    )


def _train(
    context: SparkContext, records: RecordSet, spec: TrainSpec
) -> tuple[dict[str, np.ndarray], FrameSums, Trained]:
    from shardmill.adapters import elephas_training
    from shardmill.adapters.spark_session import keep, record_rows
    from shardmill.adapters.two_stream_model import build_model, compile_model, named_weights

    train_rows, validation_rows = (
        keep(record_rows(context, parts, records, read_records=read_records, partitions=spec.workers, seed=spec.seed))
        for parts in (records.train, records.validation)
    )
    sums = train_rows.mapPartitions(_sum_rows).fold(no_sums(len(records.vocabulary)), FrameSums.__add__)
    say(f"loaded {sums.records} records of {sums.frames} frames for {spec.workers} workers")
    model = compile_model(build_model(len(records.vocabulary), spec), spec)
    rows = elephas_training.TrainingRows(train_rows.map(_pair), validation_rows.map(_pair))
    trained = elephas_training.train(model, rows, spec, say)
    if not all(np.isfinite(weight).all() for weight in trained.weights):
        raise FloatingPointError(
            f"training diverged: weights are not finite. Take a learning_rate below {spec.learning_rate}"
        )
    model.set_weights(trained.weights)
    means = {"mean.rgb": sums.means.rgb, "mean.audio": sums.means.audio}
    return {**named_weights(model), **means}, sums, trained


def main(argv: list[str]) -> int:
    """Train the run whose spec.json lies at the URI ``argv[0]``."""
    if len(argv) != 1:
        print("expected one argument: the URI of the run's spec.json", file=sys.stderr)
        return 2
    run = load_run(argv[0])
    train(run, Store(run.folder))
    return 0
