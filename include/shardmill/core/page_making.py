"""Make the page of a run's report from what was found of the run."""

from __future__ import annotations

from collections.abc import Sequence

from shardmill.core import charts
from shardmill.core.cost_rows import cost_table
from shardmill.core.page import Figure, LabelRow, Page, Section, Setting, Shown, count_text, score_text
from shardmill.core.report import Found, ShardRow, TaskOutcome, group_rejects, shard_rows, task_rows
from shardmill.specs.cluster_run import section_of
from shardmill.specs.record_rejects import RecordReject
from shardmill.specs.records import MetricsReport, ModelManifest
from shardmill.specs.shard_runs import WorkersRun
from shardmill.specs.train_on_records import TrainOnRecordsSpec
from shardmill.specs.value import Spec
from shardmill.specs.video_pipeline import VideoRun

MAX_SHARD_ROWS = 60
MAX_LABEL_ROWS = 500
MAX_WORKER_LINES = 3
METRICS = {
    "gap": (
        "GAP@20",
        "All guesses about all videos in one list, sorted by score, the 20 best of each video: how far the right ones "
        "come before the wrong ones.",
    ),
    "map": ("mAP", "Each label's average precision, averaged: a rare label counts as much as a frequent one."),
    "hit_at_1": ("Hit@1", "Share of the videos whose highest-scored label is one of theirs."),
    "perr": ("PERR", "With as many guesses for a video as it has labels: the share of them that is right."),
}
ABLATIONS = {
    "gap_rgb_only": ("picture only", "sound replaced by its mean over the training videos."),
    "gap_audio_only": ("sound only", "picture replaced by its mean over the training videos."),
    "gap_shuffled_frames": ("order shuffled", "each video's seconds in random order."),
    "gap_constant": ("label frequencies", "no model at all: every video gets the same scores."),
}


def make_page(found: Found, tasks: Sequence[TaskOutcome], failure: str, shown: Sequence[Shown]) -> Page:
    """Put everything together; ``failure`` is the message of the task that failed, empty where none did."""
    asked, metrics = found.run.asked, found.metrics
    failed = next((outcome.task for outcome in tasks if outcome.state == "failed"), "")
    rows = shard_rows(found.shards or (), found.manifests)
    kept = _rows_to_show(rows)
    gaps = {name: getattr(metrics, name) for name in ABLATIONS} if metrics else {}
    best = max((value for value in gaps.values() if value is not None), default=None)
    return Page(
        run=found.run.run,
        started=found.run.started,
        dataset=asked.dataset,
        source=_source(asked),
        state="failed"
        if failure or failed
        else "succeeded"
        if metrics or isinstance(asked, WorkersRun)
        else "unfinished",
        failed_task=failed,
        failure=failure,
        score=metrics.gap if metrics else None,
        lead=metrics.gap - best if metrics and best is not None else None,
        counts=_counts(found, rows),
        metrics=_metric_figures(metrics) if metrics else (),
        ablations=_ablation_bars(metrics) if metrics else (),
        labels=_label_rows(metrics) if metrics else (),
        labels_left_out=max(0, len(metrics.labels) - MAX_LABEL_ROWS) if metrics else 0,
        curve=charts.line_chart(_loss_series(found.model)) if found.model else None,
        videos=metrics.videos if metrics else None,
        shown=tuple(shown),
        listed=len(found.predictions),
        hits=sum(prediction.hit for prediction in found.predictions),
        shards=kept,
        shards_left_out=len(rows) - len(kept),
        rejects=group_rejects(found.manifests),
        record_rejects=_record_rejects(found),
        tasks=task_rows(tasks),
        costs=cost_table(found, task_rows(tasks)) if found.clusters else None,
        settings=settings(asked),
        origins=_origins(found),
    )


def _rows_to_show(rows: Sequence[ShardRow]) -> tuple[ShardRow, ...]:
    """Show all shards of a small run, and of a large one those that need a look, up to a limit."""
    if len(rows) <= MAX_SHARD_ROWS:
        return tuple(rows)
    return tuple([row for row in rows if row.odd][:MAX_SHARD_ROWS])


def _counts(found: Found, rows: Sequence[ShardRow]) -> tuple[Figure, ...]:
    model, records = found.model, found.records
    figures: dict[str, int | None] = {
        **(_record_counts(found) if isinstance(found.run.asked, TrainOnRecordsSpec) else _video_counts(found)),
        "labels": len(records.vocabulary) if records else None,
        "training videos": sum(part.records for part in records.train) if records else None,
        "validation videos": sum(part.records for part in records.validation) if records else None,
        "epochs": found.run.on_cluster.epochs if model else None,
    }
    if found.metrics and found.metrics.rejected:
        figures["validation records not read"] = found.metrics.rejected
    return tuple(Figure(name, count_text(value)) for name, value in figures.items())


def _video_counts(found: Found) -> dict[str, int | None]:
    totals = found.totals
    return {
        "shards": totals.shards,
        "videos": totals.videos,
        "clips": totals.clips,
        "videos not encoded again": totals.copied,
        "rejects": totals.rejects,
    }


def _record_counts(found: Found) -> dict[str, int | None]:
    told = found.found_records
    return {
        "files": told.files if told else None,
        "records": told.records if told else None,
        "files not used": len(told.broken) if told else None,
        "records not used": told.rejected_records if told else None,
    }


def _record_rejects(found: Found) -> tuple[RecordReject, ...] | None:
    """Give files and records that could not be used; None where the run does not begin with records."""
    if not isinstance(found.run.asked, TrainOnRecordsSpec):
        return None
    return (*found.found_records.broken, *found.found_records.rejects) if found.found_records else ()


def _source(asked: VideoRun | TrainOnRecordsSpec) -> str:
    if isinstance(asked, TrainOnRecordsSpec) and asked.origin == "mirror":
        return f"{asked.mirror}/{asked.train_partition}"
    return asked.source


def _recipes(found: Found) -> list[tuple[str, str]]:
    if not isinstance(found.run.asked, VideoRun):
        return []
    asked, digest = found.run.asked, found.labels_digest
    return [
        ("clips' recipe", asked.split_recipe.hash),
        ("records' recipe", asked.feature_recipe(digest).hash if digest else "–"),
    ]


def _metric_figures(metrics: MetricsReport) -> tuple[Figure, ...]:
    return tuple(
        Figure(name, score_text(getattr(metrics, field)), meaning) for field, (name, meaning) in METRICS.items()
    )


def _ablation_bars(metrics: MetricsReport) -> tuple[charts.Bar, ...]:
    taken = {name: getattr(metrics, field) for field, (name, _) in ABLATIONS.items()}
    values = {"all of it": metrics.gap} | {name: value for name, value in taken.items() if value is not None}
    notes = dict(ABLATIONS.values())
    made = charts.bars(values, longest=1.0, main="all of it")
    return tuple(charts.Bar(bar.name, bar.value, bar.share, bar.main, notes.get(bar.name, "")) for bar in made)


def _label_rows(metrics: MetricsReport) -> tuple[LabelRow, ...]:
    scored = sorted(metrics.labels, key=lambda score: (-score.positives, score.label))
    return tuple(
        LabelRow(
            score.label,
            score.average_precision if score.positives else None,
            score.positives,
            score.training_positives,
        )
        for score in scored[:MAX_LABEL_ROWS]
    )


def _loss_series(model: ModelManifest) -> dict[str, list[charts.Point]]:
    """Give the losses by epoch: on training and validation videos, and each worker's, or the span of many."""
    history = model.history
    series: dict[str, list[charts.Point]] = {
        "training": [(entry.epoch, entry.loss) for entry in history if entry.loss is not None],
        "validation": [(entry.epoch, entry.validation_loss) for entry in history if entry.validation_loss is not None],
    }
    told = [entry for entry in history if entry.worker_losses]
    workers = min((len(entry.worker_losses) for entry in told), default=0)
    if 1 < workers <= MAX_WORKER_LINES:
        for worker in range(workers):
            series[f"worker {worker}"] = [(entry.epoch, entry.worker_losses[worker]) for entry in told]
    elif workers:
        series["worst worker"] = [(entry.epoch, max(entry.worker_losses)) for entry in told]
        series["best worker"] = [(entry.epoch, min(entry.worker_losses)) for entry in told]
    return series


def settings(asked: Spec) -> tuple[Section, ...]:
    """List what was asked, field by field, in the sections of the trigger form."""
    sections: dict[str, list[Setting]] = {}
    for name, field in type(asked).model_fields.items():
        if name == "pipeline":  # no setting: the run's name says it
            continue
        value = getattr(asked, name)
        meaning = (field.description or "").replace("`", "")
        sections.setdefault(section_of(type(asked), name), []).append(
            Setting(name, str(value), meaning, value != field.default)
        )
    return tuple(Section(name, tuple(found)) for name, found in sections.items())


def _origins(found: Found) -> tuple[tuple[str, str], ...]:
    run = found.run
    origins = [
        ("run's folder", run.folder),
        (
            "model",
            f"{found.model.trainer}, {found.model.parameters} weights, {found.model.weights_sha256}"
            if found.model
            else "–",
        ),
        *_recipes(found),
    ]
    tools: dict[str, set[str]] = {}
    for manifests in found.manifests.values():
        for manifest in manifests.values():
            for name, build in manifest.tools.items():
                tools.setdefault(f"{manifest.stage}: {name}", set()).add(build)
    return (*origins, *((name, ", ".join(sorted(builds))) for name, builds in sorted(tools.items())))
