"""Evaluate a run's model on its validation records. Runs on the cluster, inside spark-submit."""

from __future__ import annotations

import contextlib
import operator
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shardmill.adapters.model_store import OtherModelError, find_model, load_trained
from shardmill.adapters.run_folder import load_run
from shardmill.adapters.store import MissingObjectError, Store, read_sealed
from shardmill.core.ablations import FULL, variants
from shardmill.core.evaluation import REJECTS, Evaluation, Found, listed_of, metrics_of, report_of
from shardmill.core.label_curves import label_curves
from shardmill.core.metric_sums import MetricSums
from shardmill.core.record_rejects import check_record_rejects
from shardmill.core.rejects import ReconcileError
from shardmill.core.worker_shares import PartSlice, worker_shares
from shardmill.specs.record_rejects import RejectTally
from shardmill.specs.records import MetricsReport, ModelManifest, Predictions, RecordPart, RecordSet, model_inputs
from shardmill.specs.run import RunSpec

METRICS_KEY = "metrics.json"
PREDICTIONS_KEY = "predictions.json"
CURVES_KEY = "curves.json"
SCORE_BATCH = 32
MEAN_BATCH = 1024
"""Videos of a batch where the model takes means of videos."""
MOST_NAMED = 20
"""Rejects that are named in the log; all are counted."""


@dataclass(frozen=True)
class Scorer:
    """Scores shares of records on the executors, which read the lake themselves, all variants of each batch."""

    folder: str
    """URI of the run's folder."""
    manifest: ModelManifest
    max_frames: int

    def __call__(self, share: Sequence[PartSlice]) -> list[Found]:
        """Score a share; memory does not grow with it."""
        from shardmill.adapters.keras_models import model_level, score, scoring_model, set_named_weights
        from shardmill.adapters.record_batches import BatchPlan, RecordBatches

        manifest = self.manifest
        trained = load_trained(Store(self.folder), manifest)
        model = scoring_model(len(manifest.vocabulary), manifest.training)
        set_named_weights(model, trained.weights)
        level = model_level(model)
        size = MEAN_BATCH if level == "video" else SCORE_BATCH
        plan = BatchPlan(
            size, len(manifest.vocabulary), self.max_frames, level, shuffle=False, memory_mb=0, max_reject_share=1.0
        )
        batches, evaluation = RecordBatches(share, plan, rank=0), Evaluation(manifest)
        with contextlib.closing(batches):
            for batch in batches.epoch(0):
                inputs = variants(batch.frames, batch.ids, trained.means, manifest.training.seed)
                scores = {name: score(model, table, size)[: batch.records] for name, table in inputs.items()}
                evaluation.add(batch.ids[: batch.records], batch.truth[: batch.records], scores)
        return evaluation.found(batches.rejects)


Spread = Callable[[str, Scorer, Sequence[RecordPart]], dict[str, bytes]]
"""Has a scorer score the records of parts, given a name for the work; gives what was found by its name."""


def on_spark(name: str, scorer: Scorer, parts: Sequence[RecordPart]) -> dict[str, bytes]:
    """Score the records of parts on the executors; give what was found by its name, added up there."""
    from shardmill.adapters.spark_session import spark_context

    with spark_context(name) as context:
        workers = min(sum(part.records for part in parts), max(context.defaultParallelism, 1))
        shares = worker_shares(parts, workers)
        found = context.parallelize(shares, len(shares)).flatMap(scorer).keyBy(_name).reduceByKey(operator.add)
        return {name: one.content for name, one in found.collect()}


def _name(found: Found) -> str:
    return found.name


def find_metrics(store: Store, inputs: str) -> MetricsReport | None:
    """Read the run's metrics; None where there are none."""
    try:
        report = read_sealed(store, METRICS_KEY, MetricsReport)
    except MissingObjectError:
        return None
    if report.inputs != inputs:
        raise OtherModelError(
            f"{store.uri_of(METRICS_KEY)} is of another model: expected {inputs}, found {report.inputs}. "
            "The records or the settings changed since: start a run with a new name"
        )
    return report


def evaluate(run: RunSpec, store: Store, spread: Spread = on_spark) -> MetricsReport:
    """Evaluate the model of a run, unless its folder holds the metrics.

    Args:
        store: the run's folder.
        spread: deals the records to those who score them.

    Raises:
        TooManyRejectsError: more records than the run allows cannot be used.
        ValueError: there are no validation records, or none with a label.
    """
    records = read_sealed(store, "records.json", RecordSet)
    inputs = model_inputs(run.on_cluster.training, records)
    if known := find_metrics(store, inputs):
        print(f"already evaluated: {summary(known)}", flush=True)
        return known
    manifest = find_model(store, inputs)
    if manifest is None:
        raise MissingObjectError(f"{store.uri}/model/model.json is not there: train the run first")
    if not records.validation:
        raise ValueError("expected validation records, found none: raise validation_share or take more videos")
    scorer = Scorer(run.folder, manifest, records.max_frames)
    found = spread(f"evaluate {run.run}", scorer, records.validation)
    rejects = RejectTally.model_validate_json(found[REJECTS])
    for reject in rejects.rejects[:MOST_NAMED]:
        print(f"reject: {reject.file} at offset {reject.offset}: {reject.reason}", flush=True)
    total = sum(part.records for part in records.validation)
    check_record_rejects(rejects, total, run.asked.max_reject_share)
    report = report_of(metrics_of(found), manifest, rejects.count)
    _check_whole(report, total)
    listed = Predictions(inputs=inputs, videos=report.videos, listed=listed_of(found))
    # Predictions may differ by a rounding step from those of a try that died here: the last ones are as good.
    store.put(PREDICTIONS_KEY, listed.to_json())
    curves = label_curves(MetricSums.from_bytes(found[FULL]), manifest.vocabulary, inputs)
    store.put(CURVES_KEY, curves.to_json())
    if not store.put_new(METRICS_KEY, report.to_json()):
        report = find_metrics(store, inputs) or report
    print(f"evaluated: {summary(report)}", flush=True)
    return report


def _check_whole(report: MetricsReport, total: int) -> None:
    # What a file has lost behind a cut may be no record at all, so that there may be more rejects than expected.
    if report.videos > total or report.videos + report.rejected < total:
        counts = f"{report.videos} were scored and {report.rejected} rejected"
        raise ReconcileError(f"expected {total} validation records, {counts}: evaluate again")


def summary(report: MetricsReport) -> str:
    """Write the metrics in a line; margins only where there are any."""
    figures = {name: value for name, value in report if isinstance(value, float)}
    figures = {name: value for name, value in figures.items() if value or not name.endswith("_margin")}
    return f"{report.videos} videos, " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items())


def main(argv: list[str]) -> int:
    """Evaluate the run whose spec.json lies at the URI ``argv[0]``."""
    if len(argv) != 1:
        print("expected one argument: the URI of the run's spec.json", file=sys.stderr)
        return 2
    run = load_run(argv[0])
    evaluate(run, Store(run.folder))
    return 0
