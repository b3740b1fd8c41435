"""A run: what was asked, under which name, and the values that it froze in its folder."""

from __future__ import annotations

from pydantic import Field

from shardmill.specs.manifest import SourceObject
from shardmill.specs.value import Name, Sealed, Spec
from shardmill.specs.video_pipeline import VideoPipelineSpec


class RunSpec(Sealed):
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
    todo: dict[str, str] = Field(default_factory=dict)
    """Why it is to be done, by stage; a stage that is not named was done when the run was planned."""
    retry_of: int | None = None
    """Revision of its clips whose rejects are tried once more."""


class RunPlan(Sealed):
    """The frozen listing of a run's source, stored as ``runs/<run>/plan.json``."""

    shards: tuple[PlannedShard, ...]
    notes: tuple[str, ...] = ()
    """What was found at each stage, for people."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """The shard numbers, ascending."""
        return tuple(planned.shard for planned in self.shards)

    @property
    def unfinished(self) -> tuple[PlannedShard, ...]:
        """The shards for which a stage is to be done, ascending."""
        return tuple(planned for planned in self.shards if planned.todo)


class RunLabels(Sealed):
    """What the run's labels are, stored as ``runs/<run>/labels.json``."""

    digest: str
    """Names, as part of the recipe, what records are made with."""
    vocabulary: tuple[str, ...]
    videos: int
    """Videos that were published as clips."""
    labelled: int
    """Those of them that have a label."""
