"""What a run's report says: counts reconciled, rejects by reason, predictions judged."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from shardmill.specs.manifest import Manifest, Reject, Stage
from shardmill.specs.prices import Span
from shardmill.specs.record_files import FoundRecords
from shardmill.specs.records import MetricsReport, ModelManifest, RecordSet
from shardmill.specs.run import RunClusters, RunSpec
from shardmill.specs.spent import RunSpent
from shardmill.specs.train_on_records import TrainOnRecordsSpec

STAGES: tuple[Stage, ...] = get_args(Stage)
EXAMPLES = 4
"""Rejects shown for each reason."""
_MAPPED = re.compile(r"(.+)_\d+")
Manifests = Mapping[Stage, Mapping[int, Manifest]]


@dataclass(frozen=True)
class TaskOutcome:
    """How a task of the run ended."""

    task: str
    """Its id; that of a mapped task ends in ``_`` and its number."""
    state: str
    """As Airflow names it, e.g. ``success``, ``failed``, ``upstream_failed``."""
    seconds: float | None = None
    """How long it took; None where it never started."""


@dataclass(frozen=True)
class StageCount:
    """What went into a stage and what came out of it."""

    samples_in: int
    published: int
    rejects: int
    expected_in: int | None = None
    """What the stage before published; None where there is no such stage, or it is unknown."""
    size: int = 0
    """Bytes of the parts."""

    @property
    def balanced(self) -> bool:
        """Whether samples in = published + rejects, and nothing was lost on the way from the stage before."""
        arrived = self.expected_in is None or self.expected_in == self.samples_in
        return arrived and self.samples_in == self.published + self.rejects


@dataclass(frozen=True)
class ShardRow:
    """A shard's counts by stage; a stage that it did not reach is None."""

    shard: int
    raw: StageCount | None
    clips: StageCount | None
    features: StageCount | None
    clip_count: int | None

    @property
    def odd(self) -> bool:
        """Whether somebody should look at it: something rejected, unfinished or out of balance."""
        stages = (self.raw, self.clips, self.features)
        return any(stage is None or stage.rejects or not stage.balanced for stage in stages)


@dataclass(frozen=True)
class RejectGroup:
    """The rejects of one reason at one stage."""

    stage: Stage
    reason: str
    count: int
    examples: tuple[tuple[int, Reject], ...]
    """Shard and reject, the first few."""


@dataclass(frozen=True)
class Prediction:
    """What the model says of a validation video."""

    video: str
    truth: tuple[str, ...]
    scores: tuple[tuple[str, float], ...]
    """Label and score, highest first."""

    @property
    def hit(self) -> bool:
        """Whether the label with the highest score is one of the video's."""
        return bool(self.scores) and self.scores[0][0] in self.truth


@dataclass(frozen=True)
class TaskRow:
    """The outcomes of one task, mapped ones together."""

    task: str
    state: str
    """The worst of them."""
    count: int
    seconds: float | None
    """In sum."""


@dataclass(frozen=True)
class CostRow:
    """Something that takes time or money: as it was planned, and as it came. None is unknown, or not counted."""

    what: str
    planned_hours: Span | None = None
    planned_usd: Span | None = None
    hours: float | None = None
    usd: float | None = None
    remark: str = ""
    part: bool = False
    """Whether it is a part of the row above."""


@dataclass(frozen=True)
class CostTable:
    """What a run was planned to cost, and what it came to."""

    summary: str
    """The plan in a line."""
    rows: tuple[CostRow, ...]
    total: CostRow
    """Of what is counted in USD."""
    lines: tuple[str, ...]
    """The plan in words."""


@dataclass(frozen=True)
class Totals:
    """A run's counts over all its shards; None where the run did not come so far."""

    shards: int | None
    videos: int | None
    """Videos published as clips."""
    clips: int | None
    copied: int | None
    """Of the videos, those whose pictures were taken over as they are."""
    rejects: int | None
    """Of all stages: videos in the shards = videos + rejects of the clips' stage."""


@dataclass(frozen=True)
class Found:
    """What a run left in the lake; what it did not come to is None or empty."""

    run: RunSpec
    shards: tuple[int, ...] | None = None
    labels_digest: str = ""
    manifests: Manifests = field(default_factory=dict)
    records: RecordSet | None = None
    model: ModelManifest | None = None
    metrics: MetricsReport | None = None
    clusters: RunClusters | None = None
    spent: RunSpent | None = None
    to_do: Mapping[Stage, frozenset[int]] = field(default_factory=dict)
    """Shards that were to be done when the run was planned."""
    predictions: tuple[Prediction, ...] = ()
    found_records: FoundRecords | None = None
    """Of a run that trains on records that were there."""

    @property
    def totals(self) -> Totals:
        """Add the shards up."""
        clips = self.manifests.get("clips", {}).values()
        every = [manifest for stage in self.manifests.values() for manifest in stage.values()]
        return Totals(
            shards=None if self.shards is None else len(self.shards),
            videos=sum(len(manifest.videos) for manifest in clips) if clips else None,
            clips=sum(video.clips for manifest in clips for video in manifest.videos) if clips else None,
            copied=sum(video.copied for manifest in clips for video in manifest.videos) if clips else None,
            rejects=sum(len(manifest.rejects) for manifest in every) if clips else None,
        )

    @property
    def stored(self) -> int:
        """Bytes of the parts of all shards that were to be done, at the stages where they were, or of copied files."""
        asked = self.run.asked
        if isinstance(asked, TrainOnRecordsSpec):
            return self.found_records.bytes if self.found_records and asked.copies else 0
        return sum(
            part.size
            for stage, by_shard in self.manifests.items()
            for shard, manifest in by_shard.items()
            if shard in self.to_do.get(stage, ())
            for part in manifest.parts
        )


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


def task_rows(outcomes: Iterable[TaskOutcome]) -> tuple[TaskRow, ...]:
    """Put the outcomes of mapped tasks together; tasks stay in the order in which they first occur."""
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
    return tuple(rows)


def choose_shown(predictions: Sequence[Prediction], most: int) -> tuple[Prediction, ...]:
    """Choose the videos that are shown: at most half of them misses, the surest first, then hits, as they come.

    Right ones are not picked by their score: a page of the best would flatter the model.
    """
    missed = sorted((p for p in predictions if not p.hit), key=lambda p: (-p.scores[0][1] if p.scores else 0, p.video))
    hits = [prediction for prediction in predictions if prediction.hit]
    some_missed = missed[: max(most // 2, most - len(hits))]
    return (*some_missed, *hits[: most - len(some_missed)])


def printable(text: str, most: int = 300) -> str:
    """Make text from data fit to be shown: no control characters, no marks that turn its direction, not endless."""
    shown = "".join(
        character
        if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn")
        else "�"
        for character in text[: most + 1]
    )
    return shown if len(text) <= most else shown[:most] + "…"
