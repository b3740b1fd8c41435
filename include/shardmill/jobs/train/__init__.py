"""Train a run's model on its records and publish it. Runs on the cluster, inside spark-submit."""

from __future__ import annotations

import sys

from shardmill.adapters.model_store import find_model, publish_model
from shardmill.adapters.run_folder import load_run
from shardmill.adapters.store import Store, read_sealed
from shardmill.core.planning import check_enough_records
from shardmill.specs.records import MODEL_VERSION, ModelManifest, RecordSet, model_inputs
from shardmill.specs.run import RunSpec
from shardmill.specs.training import TrainSpec
from shardmill.specs.training_run import TrainedModel


def say(line: str) -> None:
    """Write a line of progress at once: the step's log is followed live."""
    print(line, flush=True)


def train(run: RunSpec, store: Store) -> ModelManifest:
    """Train the model of a run, unless its folder holds it.

    Args:
        store: the run's folder.
    """
    from shardmill.jobs.train.trainers import TRAINERS, Training

    spec = run.on_cluster.training
    records = read_sealed(store, "records.json", RecordSet)
    inputs = model_inputs(spec, records)
    if found := find_model(store, inputs):
        say(f"already trained: {store.uri_of(found.weights)}")
        return found
    counts = {name: sum(part.records for part in getattr(records, name)) for name in ("train", "validation")}
    check_enough_records(counts, spec)
    training = Training(f"train {run.run}", store, records, spec, say, run.asked.max_reject_share)
    trained, trainer = TRAINERS[spec.trainer](training)
    manifest = _describe(records, spec, trained, trainer)
    say(f"trained {trained.records} records: {manifest.examples_per_second} examples/s")
    return publish_model(store, manifest)


def _describe(records: RecordSet, spec: TrainSpec, trained: TrainedModel, trainer: str) -> ModelManifest:
    return ModelManifest(
        inputs=model_inputs(spec, records),
        model_version=MODEL_VERSION,
        training=spec,
        vocabulary=records.vocabulary,
        records=records.digest,
        train_records=trained.records,
        label_counts=trained.label_counts,
        weights=trained.weights,
        weights_sha256=trained.weights_sha256,
        exports=trained.exports,
        parameters=trained.parameters,
        trainer=trainer,
        history=trained.history,
        seconds=trained.seconds,
        examples_per_second=round(trained.examples / max(trained.seconds, 1e-6), 1),
    )


def main(argv: list[str]) -> int:
    """Train the run whose spec.json lies at the URI ``argv[0]``."""
    if len(argv) != 1:
        print("expected one argument: the URI of the run's spec.json", file=sys.stderr)
        return 2
    run = load_run(argv[0])
    train(run, Store(run.folder))
    return 0
