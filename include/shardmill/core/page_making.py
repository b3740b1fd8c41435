"""Make the page of a run's report from what was found of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shardmill.core import charts
from shardmill.core.cost_rows import cost_table
from shardmill.core.freshness import fresh_lines
from shardmill.core.page import Figure, Page, Section, Setting, ShownGroup
from shardmill.core.page_model import MAX_LABEL_ROWS, curve_rows, label_rows, training_charts
from shardmill.core.page_text import count_text, score_text
from shardmill.core.report import Found, ShardRow, TaskOutcome
from shardmill.core.report_counts import flow, group_rejects, shard_rows, task_rows, why_no_shard
from shardmill.core.run_changes import changes
from shardmill.core.run_counts import COPIED, run_counts, run_result, state_of
from shardmill.core.work_rows import done_of, work_table
from shardmill.specs.cluster_run import section_of, section_place
from shardmill.specs.prices import Span
from shardmill.specs.record_rejects import RecordReject
from shardmill.specs.records import MetricsReport
from shardmill.specs.result import RunResult
from shardmill.specs.shard_runs import WorkersRun
from shardmill.specs.train_on_records import TrainOnRecordsSpec
from shardmill.specs.value import Spec
from shardmill.specs.video_pipeline import VideoRun

MAX_SHARD_ROWS = 60
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


@dataclass(frozen=True)
class Told:
    """What Airflow says of a run, beside what it left in the lake."""

    tasks: Sequence[TaskOutcome] = ()
    failure: str = ""
    """Message of the task that failed; empty where none did."""
    took: float | None = None
    """Wall seconds since the run began."""


def result_of(found: Found, told: Told) -> RunResult:
    """Sum a run up for the report of the next."""
    failed = bool(told.failure or _failed_task(told))
    return run_result(found, task_rows(told.tasks), state_of(found, failed=failed), told.took)


def make_page(found: Found, told: Told, groups: Sequence[ShownGroup]) -> Page:
    """Put everything together."""
    asked, metrics = found.run.asked, found.metrics
    rows, tasks, result = shard_rows(found.shards or (), found.manifests), task_rows(told.tasks), result_of(found, told)
    kept = _rows_to_show(rows)
    gaps = [getattr(metrics, name) for name in ABLATIONS] if metrics else []
    best = max((value for value in gaps if value is not None), default=None)
    return Page(
        run=found.run.run,
        started=found.run.started,
        dataset=asked.dataset,
        source=_source(asked),
        pipeline=found.run.pipeline,
        state=result.state,
        failed_task=_failed_task(told),
        failure=told.failure,
        score=metrics.gap if metrics else None,
        lead=metrics.gap - best if metrics and best is not None else None,
        took=told.took,
        usd=result.usd,
        planned_usd=_planned_usd(found),
        unpriced=_unpriced(found, counted=result.usd is not None),
        counts=_figures(found),
        metrics=_metric_figures(metrics) if metrics else (),
        ablations=_ablation_bars(metrics) if metrics else (),
        labels=label_rows(metrics, found.curves) if metrics else (),
        labels_left_out=max(0, len(metrics.labels) - MAX_LABEL_ROWS) if metrics else 0,
        curves=curve_rows(found.curves, metrics) if metrics else (),
        charts=training_charts(found.history),
        epochs=found.history,
        videos=metrics.videos if metrics else None,
        groups=tuple(groups),
        listed=len(found.predictions),
        hits=sum(prediction.hit for prediction in found.predictions),
        notes=(*(found.plan.notes if found.plan else ()), *(fresh_lines(found.fresh) if found.fresh else ())),
        flow=flow(found),
        shards=kept,
        no_shards=why_no_shard(found.plan) if found.plan else "",
        done=done_of(found) if isinstance(asked, WorkersRun) else None,
        shards_left_out=len(rows) - len(kept),
        odd_left_out=sum(row.odd for row in rows) - sum(row.odd for row in kept),
        rejects=group_rejects(found.manifests),
        record_rejects=_record_rejects(found),
        tasks=tasks,
        costs=cost_table(found, tasks) if found.clusters else work_table(found, told.took),
        changes=changes(found, result),
        settings=settings(asked),
        origins=_origins(found),
    )


def _planned_usd(found: Found) -> Span | None:
    if found.clusters:
        usd = found.clusters.expected_usd
        return None if found.clusters.unknown and not usd[1] else usd
    return found.plan.work.usd if found.plan and found.plan.work else None


def _unpriced(found: Found, *, counted: bool) -> bool:
    """Tell whether something is missing in the USD that the head shows: those that were ``counted``, or planned."""
    if counted:
        return found.spent is not None and any(cluster.unknown for cluster in found.spent.clusters)
    planned = found.clusters or (found.plan.work if found.plan else None)
    return planned is not None and bool(planned.unknown)


def _failed_task(told: Told) -> str:
    return next((outcome.task for outcome in told.tasks if outcome.state == "failed"), "")


def _figures(found: Found) -> tuple[Figure, ...]:
    counts = run_counts(found)
    if not counts.get(COPIED):
        counts.pop(COPIED, None)  # of few runs; a tile of its own would only ask what it means
    texts = {name: count_text(value) for name, value in counts.items()}
    if found.history and found.history[-1].epoch < (asked := found.run.on_cluster.epochs):
        texts["epochs"] += f" of {asked}"
    return tuple(Figure(name, text) for name, text in texts.items())


def _rows_to_show(rows: Sequence[ShardRow]) -> tuple[ShardRow, ...]:
    """Show all shards of a small run, and of a large one those that need a look, up to a limit."""
    if len(rows) <= MAX_SHARD_ROWS:
        return tuple(rows)
    return tuple([row for row in rows if row.odd][:MAX_SHARD_ROWS])


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
    return tuple(Section(name, tuple(sections[name])) for name in sorted(sections, key=section_place))


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
