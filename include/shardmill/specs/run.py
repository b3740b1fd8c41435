"""A run: what was asked, under which name, and the values that it froze in its folder."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from shardmill.specs.cluster_run import ClusterRun
from shardmill.specs.manifest import SourceObject
from shardmill.specs.prices import Span
from shardmill.specs.run_kinds import TRAINING, Asked, OtherPipelineError, pipeline_of
from shardmill.specs.shard_runs import BackfillSpec
from shardmill.specs.train_on_records import TrainOnRecordsSpec
from shardmill.specs.value import Name, Sealed, Spec
from shardmill.specs.video_pipeline import VideoPipelineSpec, VideoRun


class RunSpec(Sealed):
    """The record of one run, stored as ``runs/<run>/spec.json`` in the lake."""

    run: Name
    """Name of the run; its folder in the lake."""
    started: str
    """When the run was planned, ISO 8601 in UTC."""
    asked: Asked
    """What was asked."""

    @model_validator(mode="before")
    @classmethod
    def _only_elephas_trained_at_first(cls, value: Any) -> Any:
        """Read a record that names no trainer as it was meant: from before there was a choice."""
        asked = value.get("asked") if isinstance(value, dict) else None
        if isinstance(asked, dict) and pipeline_of(asked) in TRAINING and "trainer" not in asked:
            return {**value, "asked": {**asked, "trainer": "elephas"}}
        return value

    @property
    def folder(self) -> str:
        """URI of the run's folder."""
        return f"{self.asked.lake}/runs/{self.run}"

    @property
    def pipeline(self) -> str:
        """Name of the kind of run, which is also that of its DAG."""
        return pipeline_of(self.asked)

    @property
    def video(self) -> VideoRun:
        """What was asked of a run that begins with videos. Raises OtherPipelineError."""
        if isinstance(self.asked, VideoRun):
            return self.asked
        raise OtherPipelineError(f"expected a run that begins with videos, {self.run} is one of {self.pipeline}")

    @property
    def video_pipeline(self) -> VideoPipelineSpec:
        """What was asked of the video pipeline. Raises OtherPipelineError."""
        if isinstance(self.asked, VideoPipelineSpec):
            return self.asked
        raise OtherPipelineError(f"expected a run of the video pipeline, {self.run} is one of {self.pipeline}")

    @property
    def is_dry(self) -> bool:
        """Whether nothing was to be done but to plan."""
        if isinstance(self.asked, BackfillSpec):
            return self.asked.preview
        return isinstance(self.asked, ClusterRun) and self.asked.dry_run

    @property
    def on_cluster(self) -> ClusterRun:
        """What was asked of a run that trains. Raises OtherPipelineError."""
        if isinstance(self.asked, ClusterRun):
            return self.asked
        raise OtherPipelineError(f"expected a run that trains, {self.run} is one of {self.pipeline}")

    @property
    def on_records(self) -> TrainOnRecordsSpec:
        """What was asked of training on records. Raises OtherPipelineError."""
        if isinstance(self.asked, TrainOnRecordsSpec):
            return self.asked
        raise OtherPipelineError(f"expected a run of train_on_records, {self.run} is one of {self.pipeline}")


class PlannedShard(Spec):
    """A shard as the plan found it at the source."""

    shard: int
    source: SourceObject
    todo: dict[str, str] = Field(default_factory=dict)
    """Why it is to be done, by stage; a stage that is not named was done when the run was planned."""
    retry_of: int | None = None
    """Revision of its clips whose rejects are tried once more."""

    def is_retried_by(self, revision: int) -> bool:
        """Tell whether a revision of its clips is past the one whose rejects were to be tried again, if any was."""
        return self.retry_of is None or revision > self.retry_of


class PlannedCost(Spec):
    """Something beside its clusters that a run is charged for."""

    what: str
    amount: Span
    unit: str
    usd: Span | None
    """None where a price is missing."""
    unknown: tuple[str, ...] = ()
    """What has no price, each by its place in the price file."""
    rests_on: str
    """What the amount rests on, for people."""


class PlannedWork(Spec):
    """What the shards of a run on Airflow's workers are expected to take."""

    summary: str
    """In a line."""
    hours: Span
    """If `cores` worked at it together without a pause."""
    cores: int
    costs: tuple[PlannedCost, ...] = ()
    """What is charged beside the workers, which are not counted."""
    prices: str
    """Where the prices come from, and of which day and region they are."""

    @property
    def usd(self) -> Span | None:
        """What it is expected to cost, as far as prices are known; None where none is."""
        known = [cost.usd for cost in self.costs if cost.usd is not None]
        return (sum(span[0] for span in known), sum(span[1] for span in known)) if known else None

    @property
    def unknown(self) -> tuple[str, ...]:
        """What has no price, each by its place in the price file."""
        return tuple(dict.fromkeys(place for cost in self.costs for place in cost.unknown))


class RunPlan(Sealed):
    """The frozen listing of a run's source, stored as ``runs/<run>/plan.json``."""

    shards: tuple[PlannedShard, ...]
    notes: tuple[str, ...] = ()
    """What was found at each stage, for people."""
    labels: str = ""
    """Digest of the label table where it is known beforehand; names the recipe of the records."""
    left: tuple[str, ...] = ()
    """What a night leaves though it is due, and why, for people."""
    above_caps: dict[int, str] = Field(default_factory=dict)
    """The cap that a shard is more than by itself, by shard: no night does it."""
    in_range: int = 0
    """Shards that were looked at, done ones too; 0 where all of them are in `shards`."""
    work: PlannedWork | None = None
    """Of a night or a backfill that has something to do."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """The shard numbers, ascending."""
        return tuple(planned.shard for planned in self.shards)

    @property
    def unfinished(self) -> tuple[PlannedShard, ...]:
        """The shards for which a stage is to be done, ascending."""
        return tuple(planned for planned in self.shards if planned.todo)


class PlannedStage(Spec):
    """What is to be done at a stage, and why."""

    stage: str
    shards: int
    bytes: int
    """Of these shards at the source."""
    why: dict[str, int]
    """Shards by reason."""
    unit: str = "shard"
    """What is counted, where it is not shards."""


class PlannedCluster(Spec):
    """A cluster that a run will make."""

    work: str
    """What it does for the run."""
    request: dict[str, Any]
    """What EMR will be asked for, the deadline counted from the plan."""
    usd_an_hour: float = Field(ge=0)
    """Of all nodes together at most, as far as prices are known."""
    least_usd_an_hour: float | None = None
    """At least; None for the same."""
    lines: tuple[str, ...] = ()
    """What that is made of, for people."""
    unknown: tuple[str, ...] = ()
    """What has no price, each by its place in the price file."""
    hours: Span | None = None
    """Start-up, work and end as they are expected, `max_hours` at most; None where nothing is known of the work."""
    rests_on: str = ""
    """What the hours rest on, for people."""
    spark: tuple[str, ...] = ()
    """How Spark is laid out on its nodes, for people."""
    node_usd: dict[str, float | None] = Field(default_factory=dict)
    """An hour of one node by type (`m5.xlarge`, or `m5.xlarge spot`); None where a price is missing."""

    @property
    def usd(self) -> Span | None:
        """What it is expected to cost, as far as prices are known; None where its hours are not."""
        if self.hours is None:
            return None
        least = self.usd_an_hour if self.least_usd_an_hour is None else self.least_usd_an_hour
        return least * self.hours[0], self.usd_an_hour * self.hours[1]


class RunClusters(Sealed):
    """What a run will do and pay for, stored as ``runs/<run>/clusters.json`` before it does.

    Beside it lies ``plan.json``, the frozen listing of the run's shards.
    """

    clusters: tuple[PlannedCluster, ...]
    max_hours: float
    """No cluster lives longer."""
    prices: str
    """Where the prices come from, and of which day and region they are."""
    stages: tuple[PlannedStage, ...] = ()
    """Those at which there is something to do."""
    clips: Span | None = None
    """Clips that are expected; None where none are to be cut."""
    clips_rest_on: str = ""
    """What that rests on, for people."""
    costs: tuple[PlannedCost, ...] = ()
    """What is charged beside the clusters."""
    remarks: tuple[str, ...] = ()
    """What costs nothing, or is not counted."""
    checked: tuple[str, ...] = ()
    """What was looked up in the account and found right."""
    not_checked: tuple[str, ...] = ()
    """What could not be looked up, and why."""
    words: tuple[str, ...] = ()
    """All of it in words."""

    @property
    def unknown(self) -> tuple[str, ...]:
        """What has no price, each by its place in the price file."""
        clusters = [place for cluster in self.clusters for place in cluster.unknown]
        return tuple(dict.fromkeys((*clusters, *(place for cost in self.costs for place in cost.unknown))))

    @property
    def most_usd(self) -> float:
        """What it costs if every cluster lives until its deadline, as far as prices are known."""
        clusters = sum(cluster.usd_an_hour * self.max_hours for cluster in self.clusters)
        return clusters + sum(cost.usd[1] for cost in self.costs if cost.usd)

    @property
    def expected_usd(self) -> Span:
        """What it is expected to cost, as far as prices and hours are known."""
        spans = [*(cluster.usd for cluster in self.clusters), *(cost.usd for cost in self.costs)]
        known = [span for span in spans if span is not None]
        return sum(span[0] for span in known), sum(span[1] for span in known)

    @property
    def summary(self) -> str:
        """What it may cost, in a line: from what is expected at least to what it is at the deadline."""
        counts = {0: "no cluster is needed", 1: "1 cluster"}
        count = counts.get(len(self.clusters), f"{len(self.clusters)} clusters")
        if not self.clusters and self.most_usd < 0.005 and not self.unknown:
            return count
        known = ", and what has no price" if self.unknown else ""
        return f"{count}, {self.expected_usd[0]:.2f} to {self.most_usd:.2f} USD{known}"


class RunLabels(Sealed):
    """What the run's labels are, stored as ``runs/<run>/labels.json``."""

    digest: str
    """Names, as part of the recipe, what records are made with."""
    vocabulary: tuple[str, ...]
    videos: int
    """Videos that were published as clips."""
    labelled: int
    """Those of them that have a label."""
