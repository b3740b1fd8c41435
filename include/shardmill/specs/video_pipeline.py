"""What a run of the video pipeline asks. The trigger form is made from this class."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from shardmill.specs.cluster import InstanceType
from shardmill.specs.cluster_run import ClusterRun, LakeRun
from shardmill.specs.recipes import FeatureRecipe, Preset, SplitRecipe
from shardmill.specs.spark_conf import SparkConf
from shardmill.specs.value import OptionalUri, ShardRange, Spec, Uri, in_section

INGESTS = {"reference": "read where they lie", "copy": "copied into the lake"}
PRESETS = {"ultrafast": "ultrafast (largest files)", "slow": "slow (smallest files)"}
PLACES = {"workers": "Airflow's workers", "cluster": "a Spark cluster of the run"}


class VideoWork(Spec):
    """What is done with shards of videos until they are records."""

    source: Uri = in_section(
        "What", "s3://shardmill-source/sample", examples=["s3://my-videos/shards", "gs://partner/shards"]
    )
    """Folder of the raw shards: s3://, gs:// or file://; their names end in -NNNNNN.tar."""
    shards: ShardRange = in_section("What", "all", examples=["all", "000000..000099,000205"])
    """Which shards: `all`, or e.g. `000000..000099,000205`."""
    ingest: Literal["reference", "copy"] = in_section("Data", "reference", names=INGESTS)
    """`reference` reads shards where they lie, in the version that was planned; `copy` copies them into the lake."""
    labels: OptionalUri = in_section("Data", "", examples=["s3://my-videos/labels.csv"])
    """A CSV of `video_id,label|label`; empty to take `labels` from each video's .info.json."""
    batch_mb: int = in_section("Data", 4096, title="Shards for one task (MB)", ge=1, le=10_000_000)
    """Shards are handed to a task in batches of about so many megabytes."""

    clip_seconds: float = in_section("Split", 2.0, title="Clip length (seconds)", gt=0, le=60)
    """Length of a clip in seconds; the last clip of a video may be shorter."""
    width: int = in_section("Split", 256, title="Width (pixels)", ge=16, le=4096, multiple_of=2)
    """Width of a clip in pixels."""
    height: int = in_section("Split", 128, title="Height (pixels)", ge=16, le=4096, multiple_of=2)
    """Height of a clip in pixels."""
    preset: Preset = in_section("Split", "veryfast", title="Encoder preset", names=PRESETS)
    """Speed of the H.264 encoder against the size of its output."""
    crf: float = in_section("Split", 21.3, title="Quality (CRF)", ge=0, le=51)
    """Quality of the H.264 encoder: lower is better and larger."""
    max_part_mb: int = in_section("Split", 256, title="Size of a part (MB)", ge=1, le=4096)
    """Clips are packed into parts of about so many megabytes; a retry redoes at most one of them."""
    fused: bool = in_section("Split", False, title="Records while cutting")
    """Make a shard's records on the worker that cuts it, out of one decoding of its clips; needs `labels`."""
    where: Literal["workers", "cluster"] = in_section("Split", "workers", title="Where videos are cut", names=PLACES)
    """Where videos are cut: by Airflow's `workers`, or by a Spark job on a `cluster` of the run, a task a shard."""
    max_reject_share: float = in_section("Split", 0.2, title="Rejects at most (share)", ge=0, le=1)
    """A shard fails when more than this share of its videos cannot be used."""
    retry_rejects: bool = in_section("What", False, title="Try rejects again")
    """Try refused videos once more where the reason may pass by itself, such as a time-out."""

    extractor: str = in_section(
        "Features",
        "frame_statistics",
        pattern=r"^[a-zA-Z0-9_]{1,64}$",
        examples=["frame_statistics", "EfficientNetV2B0"],
    )
    """Frame extractor: `frame_statistics` needs no download; or the name of a `keras.applications` model."""
    extractor_weights: OptionalUri = in_section("Features", "")
    """Weights (.weights.h5) of a `keras.applications` model."""
    projection: OptionalUri = in_section("Features", "")
    """PCA to 1024 values (.npz with `components` and `mean`); empty for a seeded random projection."""
    validation_share: float = in_section("Features", 0.2, title="Validation share (of videos)", gt=0, lt=1)
    """Share of the videos kept for validation, chosen by the hash of the video's id."""

    @model_validator(mode="after")
    def _labels_are_known_where_records_are_made_early(self) -> Self:
        if self.fused and not self.labels:
            raise ValueError(
                "fused: needs a label table (`labels`), for those in .info.json are known after split only"
            )
        return self

    @property
    def split_recipe(self) -> SplitRecipe:
        return SplitRecipe(
            clip_seconds=self.clip_seconds,
            width=self.width,
            height=self.height,
            preset=self.preset,
            crf=self.crf,
            max_part_mb=self.max_part_mb,
        )

    def feature_recipe(self, labels: str) -> FeatureRecipe:
        """Give the recipe of the records; ``labels`` is the hash of the label table."""
        return FeatureRecipe(
            split=self.split_recipe,
            extractor=self.extractor,
            extractor_weights=self.extractor_weights,
            projection=self.projection,
            validation_share=self.validation_share,
            labels=labels,
        )


class VideoRun(LakeRun, VideoWork):
    """A run that makes records of shards of videos, whatever comes behind."""


class VideoPipelineSpec(ClusterRun, VideoRun):
    """Turn shards of videos into a trained, evaluated classifier."""

    split_type: InstanceType = in_section("Where", "m5.2xlarge", title="Cutting node type")
    """Instance type of the nodes that cut videos, where a `cluster` does."""
    split_count: int = in_section("Where", 2, title="Cutting nodes", ge=1, le=100)
    """Number of nodes that cut videos, each a shard at a time."""
    split_spot_count: int = in_section("Where", 0, title="Cutting spot nodes", ge=0, le=100)
    """Spot nodes that cut videos, of the same type as the others that do, where a `cluster` does."""
    split_spark_conf: SparkConf = in_section("Where", "", title="Spark settings (cutting)")
    """Spark settings instead of the derived ones where a `cluster` cuts videos."""
