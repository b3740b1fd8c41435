"""Counts of a run: by shard and stage, rejects by reason, tasks; and whether every video is accounted for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from shardmill.core.report import (
    STAGES,
    Found,
    Manifests,
    RejectGroup,
    ShardRow,
    StageCount,
    TaskOutcome,
    TaskRow,
)
from shardmill.specs.manifest import Manifest, Reject, Stage
from shardmill.specs.run import RunPlan

EXAMPLES = 4
"""Rejects shown for each reason."""
_MAPPED = re.compile(r"(.+)_\d+")


def stage_count(manifest: Manifest, expected_in: int | None) -> StageCount:
    """Count a shard at a stage. A raw shard is one sample, its file; later stages count videos."""
    published = manifest.samples_in if manifest.stage == "raw" else len(manifest.videos)
    size = sum(part.size for part in manifest.parts)
    return StageCount(manifest.samples_in, published, len(manifest.rejects), expected_in, size)


def shard_rows(shards: Iterable[int], manifests: Manifests) -> tuple[ShardRow, ...]:
    """Count every shard at every stage."""
    rows = []
    for shard in shards:
        raw, clips, features = (manifests.get(stage, {}).get(shard) for stage in STAGES)
        rows.append(
            ShardRow(
                shard,
                stage_count(raw, None) if raw else None,
                stage_count(clips, None) if clips else None,
                stage_count(features, len(clips.videos) if clips else None) if features else None,
                sum(video.clips for video in clips.videos) if clips else None,
            )
        )
    return tuple(rows)


def why_no_shard(plan: RunPlan) -> str:
    """Say why a run that was planned took no shard; empty where it took some."""
    if plan.shards:
        return ""
    if plan.left:
        return f"No shard was taken, though some are due: {'; '.join(plan.left)}."
    if plan.in_range:
        many = "The one shard" if plan.in_range == 1 else f"All {plan.in_range:,} shards"
        return f"Nothing was to be done. {many} of the range {'is' if plan.in_range == 1 else 'are'} up to date."
    return f"Nothing was to be done: {plan.notes[-1]}." if plan.notes else "Nothing was to be done."


def group_rejects(manifests: Manifests, examples: int = EXAMPLES) -> tuple[RejectGroup, ...]:
    """Put the rejects of all shards together by stage and reason, the most frequent first."""
    found: dict[tuple[Stage, str], list[tuple[int, Reject]]] = {}
    for stage in STAGES:
        for shard, manifest in sorted(manifests.get(stage, {}).items()):
            for reject in manifest.rejects:
                found.setdefault((stage, reject.reason), []).append((shard, reject))
    groups = [
        RejectGroup(stage, reason, len(rejects), tuple(rejects[:examples]))
        for (stage, reason), rejects in found.items()
    ]
    return tuple(sorted(groups, key=lambda group: (-group.count, STAGES.index(group.stage), group.reason)))


_WORST_FIRST = ("failed", "upstream_failed", "up_for_retry", "running", "queued", "scheduled", "none", "removed")


_ORDER = (
    *("plan", "plan_records", "budget", "hand_out", "ingest", "fetch", "find"),
    *("create_split_cluster", "split", "split_on_cluster", "delete_split_cluster", "label", "features", "select"),
    *("create_cluster", "train", "evaluate", "publish", "delete_cluster"),
    *("canary", "shards", "announce", "count"),
)
"""Of the pipelines' tasks; Airflow lists them in no order."""


def task_rows(outcomes: Iterable[TaskOutcome]) -> tuple[TaskRow, ...]:
    """Put the outcomes of mapped tasks together, in the order of the pipeline; unknown tasks come last."""
    by_task: dict[str, list[TaskOutcome]] = {}
    for outcome in outcomes:
        mapped = _MAPPED.fullmatch(outcome.task)
        by_task.setdefault(mapped[1] if mapped else outcome.task, []).append(outcome)
    rows = []
    for task, found in by_task.items():
        states = {outcome.state for outcome in found}
        worst = next((state for state in _WORST_FIRST if state in states), None)
        if worst is None:
            worst = "success" if "success" in states else found[0].state
        seconds = [outcome.seconds for outcome in found if outcome.seconds is not None]
        rows.append(TaskRow(task, worst, len(found), sum(seconds) if seconds else None))
    return tuple(sorted(rows, key=lambda row: _ORDER.index(row.task) if row.task in _ORDER else len(_ORDER)))


@dataclass(frozen=True)
class FlowStep:
    """A step on the way from the shards to the score: what came in, what goes on, what does not."""

    what: str
    into: str
    """What becomes of it, for people."""
    came_in: int
    goes_on: int
    rejects: int
    expected: int | None = None
    """What the step before let go on; None for the first."""
    unfinished: int = 0
    """Shards that did not come so far; what is in them is in none of the counts."""

    @property
    def balanced(self) -> bool:
        """Whether nothing vanished: neither in the step nor between it and the one before."""
        return self.came_in == self.goes_on + self.rejects and self.expected in (None, self.came_in)


def flow(found: Found) -> tuple[FlowStep, ...]:
    """Follow every video, or record, from the shards to the score; steps that were not reached are left out."""
    first = list(_record_steps(found)) if found.found_records else list(_video_steps(found))
    return (*first, *_model_steps(found, first[-1].goes_on if first else None))


def _video_steps(found: Found) -> Iterator[FlowStep]:
    shards = found.shards or ()
    clips, features = (found.manifests.get(stage, {}) for stage in STAGES[1:])
    if clips:
        counts = [stage_count(manifest, None) for manifest in clips.values()]
        yield _summed("videos in the shards", "cut into clips", counts, None, len(shards) - len(clips))
    if features:
        counts = [stage_count(manifest, None) for manifest in features.values()]
        expected = sum(len(clips[shard].videos) for shard in features if shard in clips)
        yield _summed("videos with clips", "made into records", counts, expected, len(shards) - len(features))


def _summed(what: str, into: str, counts: Iterable[StageCount], expected: int | None, unfinished: int) -> FlowStep:
    sums = [(count.samples_in, count.published, count.rejects) for count in counts]
    came_in, goes_on, rejects = (sum(column) for column in zip(*sums, strict=True))
    return FlowStep(what, into, came_in, goes_on, rejects, expected, unfinished)


def _record_steps(found: Found) -> Iterator[FlowStep]:
    told = found.found_records
    if told is not None:
        used = told.records - told.rejected_records
        yield FlowStep("records in the files", "usable", told.records, used, told.rejected_records)


def _model_steps(found: Found, arrived: int | None) -> Iterator[FlowStep]:
    if found.records is None:
        return
    sums = [sum(part.records for part in parts) for parts in (found.records.train, found.records.validation)]
    train, validation = sums
    if not found.found_records:  # there, the lists still hold what cannot be used
        dealt = f"{train:,} to train on, {validation:,} to validate"
        yield FlowStep("records", dealt, train + validation, train + validation, 0, arrived)
        if found.model is not None:
            yield FlowStep("training records", "trained on", train, found.model.train_records, 0, train)
    if found.metrics is not None:
        # Behind a cut in a file there may be no record at all: more rejects than records are missing is no loss.
        rejects = min(found.metrics.rejected, max(0, validation - found.metrics.videos))
        yield FlowStep("validation records", "scored", validation, found.metrics.videos, rejects, validation)
