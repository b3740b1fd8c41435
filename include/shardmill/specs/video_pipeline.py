"""What a run of the video pipeline asks. The trigger form is made from this class."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from shardmill.specs.cluster import AwsName, InstanceType
from shardmill.specs.recipes import FeatureRecipe, Preset, SplitRecipe
from shardmill.specs.training import TrainSpec
from shardmill.specs.value import Name, OptionalUri, ShardRange, Spec, Uri


def _in(section: str, default: Any, **bounds: Any) -> Any:
    return Field(default, json_schema_extra={"section": section}, **bounds)


class VideoPipelineSpec(Spec):
    """Turn shards of videos into a trained, evaluated classifier."""

    source: Uri = _in("Data", "s3://shardmill-source/sample")
    """Folder of the raw shards: s3://, gs:// or file://; their names end in -NNNNNN.tar."""
    shards: ShardRange = _in("Data", "all")
    """Which shards: `all`, or e.g. `000000..000099,000205`."""
    source_connection: str = _in("Data", "", pattern=r"^[a-zA-Z0-9_.-]{0,200}$")
    """Airflow connection that reaches the source's bucket, S3-compatible or GCS; empty for that of the lake."""
    ingest: Literal["reference", "copy"] = _in("Data", "reference")
    """`reference` reads shards where they lie, in the version that was planned; `copy` copies them into the lake."""
    labels: OptionalUri = _in("Data", "")
    """A CSV of `video_id,label|label`; empty to take `labels` from each video's .info.json."""
    dataset: Name = _in("Data", "sample")
    """Name of the data set in the lake."""
    lake: Uri = _in("Data", "s3://shardmill-lake")
    """Folder that holds everything the run makes."""
    batch_mb: int = _in("Data", 4096, ge=1, le=10_000_000)
    """Shards are handed to a task in batches of about so many megabytes."""

    clip_seconds: float = _in("Split", 2.0, gt=0, le=60)
    """Length of a clip in seconds; the last clip of a video may be shorter."""
    width: int = _in("Split", 256, ge=16, le=4096, multiple_of=2)
    """Width of a clip in pixels."""
    height: int = _in("Split", 128, ge=16, le=4096, multiple_of=2)
    """Height of a clip in pixels."""
    preset: Preset = _in("Split", "veryfast")
    """Speed of the H.264 encoder against the size of its output."""
    crf: float = _in("Split", 21.5, ge=0, le=51)
    """Quality of the H.264 encoder: lower is better and larger."""
    max_part_mb: int = _in("Split", 256, ge=1, le=4096)
    """Clips are packed into parts of about so many megabytes; a retry redoes at most one of them."""
    fused: bool = _in("Split", False)
    """Make a shard's records on the worker that cuts it, out of one decoding of its clips; needs `labels`."""
    where: Literal["workers", "cluster"] = _in("Split", "workers")
    """Where videos are cut: by Airflow's `workers`, or by a Spark job on a `cluster` of the run, a task a shard."""
    max_reject_share: float = _in("Split", 0.2, ge=0, le=1)
    """A shard fails when more than this share of its videos cannot be used."""
    retry_rejects: bool = _in("Split", False)
    """Try refused videos once more where the reason may pass by itself, such as a time-out."""

    extractor: str = _in("Features", "frame_statistics", pattern=r"^[a-zA-Z0-9_]{1,64}$")
    """Frame extractor: `frame_statistics` needs no download; or the name of a `keras.applications` model."""
    extractor_weights: OptionalUri = _in("Features", "")
    """Weights (.weights.h5) of a `keras.applications` model."""
    projection: OptionalUri = _in("Features", "")
    """PCA to 1024 values (.npz with `components` and `mean`); empty for a seeded random projection."""
    validation_share: float = _in("Features", 0.2, gt=0, lt=1)
    """Share of the videos kept for validation, chosen by the hash of the video's id."""

    mode: Literal["synchronous", "asynchronous", "hogwild"] = _in("Train", "synchronous")
    """How Elephas' workers exchange weights."""
    frequency: Literal["epoch", "batch"] = _in("Train", "epoch")
    """When asynchronous workers exchange weights."""
    workers: int = _in("Train", 2, ge=1, le=256)
    """Number of Spark tasks that train."""
    epochs: int = _in("Train", 12, ge=1, le=1000)
    """Passes over the training records."""
    batch_size: int = _in("Train", 16, ge=1, le=4096)
    """Examples a worker takes in one step."""
    learning_rate: float = _in("Train", 0.003, gt=0, le=1)
    """Step size of Adam."""
    rgb_units: int = _in("Train", 32, ge=1, le=2048)
    """Units of the LSTM over frames, in each direction."""
    audio_units: int = _in("Train", 16, ge=1, le=2048)
    """Units of the LSTM over audio, in each direction."""
    dense_units: int = _in("Train", 64, ge=1, le=8192)
    """Units of the dense layer behind both streams."""
    seed: int = _in("Train", 1, ge=0, le=2**31 - 1)
    """Seed of weights and of the order of examples."""

    release_label: str = _in("Where", "emr-7.13.0", pattern=r"^emr-[a-z0-9.-]{3,30}$")
    """EMR release."""
    image_id: str = _in("Where", "", pattern=r"^(ami-[0-9a-f]{8,17})?$")
    """Custom machine image; empty for the newest own image tagged `shardmill=cluster`."""
    master_type: InstanceType = _in("Where", "m5.xlarge")
    """Instance type of the master node."""
    core_type: InstanceType = _in("Where", "g4dn.xlarge")
    """Instance type of the core nodes."""
    core_count: int = _in("Where", 2, ge=1, le=100)
    """Number of core nodes."""
    split_type: InstanceType = _in("Where", "m5.2xlarge")
    """Instance type of the nodes that cut videos, where a `cluster` does."""
    split_count: int = _in("Where", 2, ge=1, le=100)
    """Number of nodes that cut videos, each a shard at a time."""
    root_volume_gib: int = _in("Where", 40, ge=15, le=1000)
    """Root volume of each node in GiB."""
    subnet_id: str = _in("Where", "", pattern=r"^(subnet-[0-9a-f]{8,17})?$")
    """Subnet of the nodes; empty for the account's default."""
    service_role: AwsName = _in("Where", "EMR_DefaultRole")
    """IAM role of EMR."""
    instance_profile: AwsName = _in("Where", "EMR_EC2_DefaultRole")
    """IAM instance profile of the nodes."""

    idle_minutes: int = _in("Guards", 15, ge=1, le=10080)
    """The cluster ends itself when it was idle for so long."""
    max_hours: float = _in("Guards", 6.0, gt=0, le=168)
    """Hours from the making of the cluster until its steps are cancelled and it is ended."""

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

    @property
    def training(self) -> TrainSpec:
        return TrainSpec(**{name: getattr(self, name) for name in TrainSpec.model_fields})
