"""The kinds of run: what is asked of each, by its name, which is also that of its DAG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from shardmill.specs.shard_runs import BackfillSpec, NightlySpec
from shardmill.specs.train_on_records import TrainOnRecordsSpec
from shardmill.specs.value import Spec
from shardmill.specs.video_pipeline import VideoPipelineSpec


class OtherPipelineError(ValueError):
    """A run is asked for what only another kind of run has."""


def pipeline_of(asked: Any) -> str:
    """Name the kind of run that something asks for; records of runs of the video pipeline do not say theirs."""
    if isinstance(asked, dict):
        return str(asked.get("pipeline", "video_pipeline"))
    return str(getattr(asked, "pipeline", "video_pipeline"))


TRAINING = ("video_pipeline", "train_on_records")
"""Kinds of runs that train a model, on a cluster."""
VideoAsked = (
    Annotated[VideoPipelineSpec, Tag(TRAINING[0])]
    | Annotated[NightlySpec, Tag("nightly_reprocess")]
    | Annotated[BackfillSpec, Tag("backfill_shards")]
)
"""Of runs that begin with videos."""
SPECS: Mapping[str, type[Spec]] = {
    "video_pipeline": VideoPipelineSpec,
    "train_on_records": TrainOnRecordsSpec,
    "nightly_reprocess": NightlySpec,
    "backfill_shards": BackfillSpec,
}
"""What is asked of each kind of run."""
Asked = Annotated[VideoAsked | Annotated[TrainOnRecordsSpec, Tag(TRAINING[1])], Discriminator(pipeline_of)]
