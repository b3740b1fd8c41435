"""A run: what was asked, under which name, and the values that it froze in its folder."""

from __future__ import annotations

from shardmill.specs.manifest import SourceObject
from shardmill.specs.value import Name, Spec
from shardmill.specs.video_pipeline import VideoPipelineSpec


class RunSpec(Spec):
    """The record of one run, stored as ``runs/<run>/spec.json`` in the lake."""

    run: Name
    """Name of the run; its folder in the lake."""
    started: str
    """When the run was planned, ISO 8601 in UTC."""
    asked: VideoPipelineSpec
    """What was asked."""

    @property
    def folder(self) -> str:
        """URI of the run's folder."""
        return f"{self.asked.lake}/runs/{self.run}"


class PlannedShard(Spec):
    """A shard as the plan found it at the source."""

    shard: int
    source: SourceObject


class RunPlan(Spec):
    """The frozen listing of a run's source, stored as ``runs/<run>/plan.json``."""

    shards: tuple[PlannedShard, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The shard numbers, ascending."""
        return tuple(planned.shard for planned in self.shards)


class RunLabels(Spec):
    """What the run's labels are, stored as ``runs/<run>/labels.json``."""

    digest: str
    """Names, as part of the recipe, what records are made with."""
    vocabulary: tuple[str, ...]
    videos: int
    """Videos that were published as clips."""
    labelled: int
    """Those of them that have a label."""
