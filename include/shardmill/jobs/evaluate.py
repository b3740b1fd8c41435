"""Evaluate a run's model on its validation records. Runs on the cluster, inside spark-submit."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shardmill.adapters.model_store import OtherModelError, find_model, load_weights
from shardmill.adapters.records import read_records
from shardmill.adapters.run_folder import load_run
from shardmill.adapters.store import MissingObjectError, Store, read_sealed
from shardmill.core import metrics
from shardmill.core.ablations import VARIANTS, TrainingMeans, constant_scores, variants
from shardmill.specs.records import (
    LabelScore,
    MetricsReport,
    ModelManifest,
    Predictions,
    RecordSet,
    VideoPrediction,
    model_inputs,
)
from shardmill.specs.run import RunSpec

if TYPE_CHECKING:
    from shardmill.adapters.spark_session import Row

METRICS_KEY = "metrics.json"
PREDICTIONS_KEY = "predictions.json"
SCORE_BATCH = 32
TOP_LABELS = 5
MOST_LISTED = 10_000


@dataclass(frozen=True, eq=False)
class Scored:
    """The validation videos, ordered by id, with their scores for each variant of the input."""

    ids: tuple[str, ...]
    truth: np.ndarray
    """bool [videos, labels]."""
    scores: dict[str, np.ndarray]
    """float32 [videos, labels] by variant."""


@dataclass(frozen=True, eq=False)
class _Scorer:
    """Scores rows on the executors, all variants of each batch."""

    manifest: ModelManifest
    arrays: Any
    """Broadcast arrays of the model."""

    def __call__(self, rows: Iterable[Row]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        from shardmill.adapters.two_stream_model import score, scoring_model, set_named_weights

        model = scoring_model(len(self.manifest.vocabulary), self.manifest.training)
        arrays = dict(self.arrays.value)
        means = TrainingMeans(arrays.pop("mean.rgb"), arrays.pop("mean.audio"))
        set_named_weights(model, arrays)
        remaining = iter(rows)
        while batch := list(itertools.islice(remaining, SCORE_BATCH)):
            frames, ids = np.stack([row.frames for row in batch]), [row.id for row in batch]
            inputs = variants(frames, ids, means, self.manifest.training.seed)
            scores = np.stack([score(model, variant, SCORE_BATCH) for variant in inputs], axis=1)
            yield from ((row.id, row.truth > 0, of_video) for row, of_video in zip(batch, scores, strict=True))


def _gather(found: Iterable[tuple[str, np.ndarray, np.ndarray]]) -> Scored:
    ids, truth, scores = zip(*sorted(found, key=lambda item: item[0]), strict=True)
    by_variant = np.stack(scores, axis=1)
    return Scored(tuple(ids), np.stack(truth), dict(zip(VARIANTS, by_variant, strict=True)))


def score_records(run: RunSpec, store: Store, records: RecordSet, manifest: ModelManifest) -> Scored:
    """Score the validation records on the executors."""
    from shardmill.adapters.spark_session import record_rows, spark_context

    arrays = load_weights(store, manifest)
    with spark_context(f"evaluate {run.run}") as context:
        partitions = min(len(records.validation), max(context.defaultParallelism, 1))
        rows = record_rows(context, records.validation, records, read_records=read_records, partitions=partitions)
        return _gather(rows.mapPartitions(_Scorer(manifest, context.broadcast(arrays))).collect())


def measure(scored: Scored, manifest: ModelManifest) -> MetricsReport:
    """Compute the metrics and those of the ablations."""
    scores, truth = scored.scores["full"], scored.truth
    constant = constant_scores(manifest.label_counts, manifest.train_records, len(truth))
    by_label = metrics.label_average_precisions(scores, truth)
    return MetricsReport(
        inputs=manifest.inputs,
        videos=len(truth),
        loss=metrics.binary_cross_entropy(scores, truth),
        gap=metrics.global_average_precision(scores, truth),
        map=float(by_label.mean()),
        hit_at_1=metrics.hit_at_one(scores, truth),
        perr=metrics.precision_at_equal_recall_rate(scores, truth),
        gap_rgb_only=metrics.global_average_precision(scored.scores["rgb_only"], truth),
        gap_audio_only=metrics.global_average_precision(scored.scores["audio_only"], truth),
        gap_shuffled_frames=metrics.global_average_precision(scored.scores["shuffled_frames"], truth),
        gap_constant=metrics.global_average_precision(constant, truth),
        labels=tuple(
            LabelScore(label=label, average_precision=precision, positives=int(positives), training_positives=trained)
            for label, precision, positives, trained in zip(
                manifest.vocabulary, by_label.tolist(), truth.sum(axis=0), manifest.label_counts, strict=True
            )
        ),
    )


def predictions(scored: Scored, manifest: ModelManifest) -> Predictions:
    """List the best labels of each video beside its true ones."""
    names = manifest.vocabulary
    listed = {}
    for video, row, truth in list(zip(scored.ids, scored.scores["full"], scored.truth, strict=True))[:MOST_LISTED]:
        best = np.argsort(-row, kind="stable")[:TOP_LABELS]
        listed[video] = VideoPrediction(
            labels=tuple(names[label] for label in np.flatnonzero(truth)),
            top=tuple((names[label], round(float(row[label]), 6)) for label in best),
        )
    return Predictions(inputs=manifest.inputs, videos=len(scored.ids), listed=listed)


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


def evaluate(run: RunSpec, store: Store) -> MetricsReport:
    """Evaluate the model of a run, unless its folder holds the metrics.

    Args:
        store: the run's folder.
    """
    records = read_sealed(store, "records.json", RecordSet)
    inputs = model_inputs(run.asked.training, records)
    if found := find_metrics(store, inputs):
        print(f"already evaluated: {summary(found)}", flush=True)
        return found
    manifest = find_model(store, inputs)
    if manifest is None:
        raise MissingObjectError(f"{store.uri}/model/model.json is not there: train the run first")
    if not records.validation:
        raise ValueError("expected validation records, found none: raise validation_share or take more videos")
    scored = score_records(run, store, records, manifest)
    report = measure(scored, manifest)
    # Predictions may differ by a rounding step from those of a try that died here: the last ones are as good.
    store.put(PREDICTIONS_KEY, predictions(scored, manifest).to_json())
    if not store.put_new(METRICS_KEY, report.to_json()):
        report = find_metrics(store, inputs) or report
    print(f"evaluated: {summary(report)}", flush=True)
    return report


def summary(report: MetricsReport) -> str:
    """Write the metrics in a line."""
    figures = {name: value for name, value in report if isinstance(value, float)}
    return f"{report.videos} videos, " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items())


def main(argv: list[str]) -> int:
    """Evaluate the run whose spec.json lies at the URI ``argv[0]``."""
    if len(argv) != 1:
        print("expected one argument: the URI of the run's spec.json", file=sys.stderr)
        return 2
    run = load_run(argv[0])
    evaluate(run, Store(run.folder))
    return 0
