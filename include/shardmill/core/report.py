"""What is found of a run, and what its report says of it: values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from shardmill.specs.curves import LabelCurves
from shardmill.specs.fresh import Fresh
from shardmill.specs.manifest import Manifest, Reject, Stage
from shardmill.specs.record_files import FoundRecords
from shardmill.specs.records import EpochLoss, MetricsReport, ModelManifest, RecordSet
from shardmill.specs.result import RunResult
from shardmill.specs.run import PlannedShard, RunClusters, RunLabels, RunPlan, RunSpec
from shardmill.specs.spent import RunSpent
from shardmill.specs.train_on_records import TrainOnRecordsSpec

STAGES: tuple[Stage, ...] = get_args(Stage)
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

    @property
    def found(self) -> int:
        """How many of its labels are among as many best scores as it has labels."""
        return sum(label in self.truth for label, _ in self.scores[: len(self.truth)])

    @property
    def unlisted(self) -> tuple[str, ...]:
        """Its labels that are not even among the scores."""
        told = {label for label, _ in self.scores}
        return tuple(label for label in self.truth if label not in told)

    @property
    def separation(self) -> float:
        """How far the lowest of its own labels is above the highest of the others, from -1 (worst) to 1 (best).

        What is not among the scores counts as 0.
        """
        told = dict(self.scores)
        own = min((told.get(label, 0.0) for label in self.truth), default=0.0)
        return own - max((score for label, score in self.scores if label not in self.truth), default=0.0)


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
class Earlier:
    """What is known of the run before, of the same kind and data set."""

    run: RunSpec
    result: RunResult | None = None
    metrics: MetricsReport | None = None
    plan: RunPlan | None = None
    fresh: Fresh | None = None
    records: RecordSet | None = None
    videos: frozenset[str] = frozenset()
    """Validation videos whose predictions are listed."""
    between: int = 0
    """Later runs that were passed over, for they had no metrics."""


def written(manifest: Manifest) -> int:
    """Count the bytes that a revision wrote: it lists the parts of older ones too, which lie in their folders."""
    return sum(part.size for part in manifest.parts if f"/r{manifest.revision:03d}/" in part.name)


@dataclass(frozen=True)
class Found:
    """What a run left in the lake; what it did not come to is None or empty."""

    run: RunSpec
    plan: RunPlan | None = None
    labels: RunLabels | None = None
    manifests: Manifests = field(default_factory=dict)
    sha256: Mapping[Stage, Mapping[int, str]] = field(default_factory=dict)
    """Of the manifests, as they lie in the lake."""
    records: RecordSet | None = None
    model: ModelManifest | None = None
    metrics: MetricsReport | None = None
    clusters: RunClusters | None = None
    spent: RunSpent | None = None
    history: tuple[EpochLoss, ...] = ()
    """The epochs of a model, or those that a training came to that did not end well."""
    curves: LabelCurves | None = None
    earlier: Earlier | None = None
    predictions: tuple[Prediction, ...] = ()
    fresh: Fresh | None = None
    """Of a run that tells when training may follow."""
    found_records: FoundRecords | None = None
    """Of a run that trains on records that were there."""

    @property
    def shards(self) -> tuple[int, ...] | None:
        """The shards that were planned; None where none were."""
        return self.plan.numbers if self.plan else None

    @property
    def labels_digest(self) -> str:
        """Names the labels in the recipe of the records; empty where they are not settled."""
        return self.labels.digest if self.labels else self.plan.labels if self.plan else ""

    @property
    def to_do(self) -> Mapping[Stage, frozenset[int]]:
        """Shards that were to be done when the run was planned."""
        planned = self.plan.shards if self.plan else ()
        return {stage: frozenset(one.shard for one in planned if stage in one.todo) for stage in STAGES}

    def is_done(self, planned: PlannedShard, stage: Stage) -> bool:
        """Tell whether a shard's output at a stage is there, made of the very input that was planned.

        Clips whose rejects are to be tried again are not before they were.
        """
        manifest = self.manifests.get(stage, {}).get(planned.shard)
        if manifest is None:
            return False
        if stage != "features":
            tried = stage != "clips" or planned.is_retried_by(manifest.revision)
            return tried and manifest.source.version == planned.source.version
        clips = self.sha256.get("clips", {}).get(planned.shard, manifest.source.version)
        return self.is_done(planned, "clips") and manifest.source.version == clips

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
        """Bytes that were written for all shards that were to be done and are, or of copied files."""
        asked = self.run.asked
        if isinstance(asked, TrainOnRecordsSpec):
            return self.found_records.bytes if self.found_records and asked.copies else 0
        return sum(
            written(self.manifests[stage][one.shard])
            for stage in STAGES
            for one in (self.plan.shards if self.plan else ())
            if stage in one.todo and self.is_done(one, stage)
        )
