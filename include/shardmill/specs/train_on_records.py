"""What a run asks that trains on records that are there. The trigger form is made from this class."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from shardmill.specs.cluster_run import ClusterRun
from shardmill.specs.value import OptionalUri, Spec, Uri, in_section

PLAIN_URL = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?(/[A-Za-z0-9._~-]+)*")
PUBLISHED_LABELS = {"1": 4716, "2": 3862, "3": 3862}
"""Labels of YouTube-8M by version."""


def _check_http(text: str) -> str:
    """Take an address without user, query and fragment, for the name of a file is put behind it."""
    plain = text.rstrip("/")
    if PLAIN_URL.fullmatch(plain) is None or ".." in urlsplit(plain).path.split("/"):
        raise ValueError(f"expected http://host/folder or https://host/folder, found {text!r}")
    return plain


def _check_shard(text: str) -> str:
    number, total = map(int, text.split(","))
    if not 1 <= number <= total:
        raise ValueError(f"expected i,n with 1 <= i <= n, such as 1,100, found {text!r}")
    return text


HttpUrl = Annotated[str, AfterValidator(_check_http)]
Partition = Annotated[
    str,
    Field(
        pattern=r"^[123]/(frame|video|frame_level|video_level)/(train|validate|test)$",
        max_length=40,
        examples=["2/frame/train"],
    ),
]
DownloadShard = Annotated[str, Field(pattern=r"^\d{1,5},\d{1,5}$", examples=["1,100"]), AfterValidator(_check_shard)]


ORIGINS = {"folder": "files in a bucket", "mirror": "the published data set"}
INGESTS = {"reference": "read where they lie", "copy": "copied into the lake"}


class RecordsWork(Spec):
    """Where the records come from."""

    pipeline: Literal["train_on_records"] = "train_on_records"
    """Tells this kind of run from the others in its record."""
    origin: Literal["folder", "mirror"] = in_section("What", "folder", names=ORIGINS)
    """TFRecord files in a `folder` of a bucket, or fetched from a `mirror` of the published data set."""
    source: Uri = in_section("Data", "s3://shardmill-source/records/train")
    """Folder of the training records: s3://, gs:// or file://; its files end in .tfrecord."""
    validation_source: OptionalUri = in_section("Data", "s3://shardmill-source/records/validate")
    """Folder of the validation records; empty to keep a share of the files of `source`."""
    validation_share: float = in_section("Data", 0.2, title="Validation share (of files)", gt=0, lt=1)
    """Share of the files kept for validation, by the hash of their names, where there is no `validation_source`."""
    ingest: Literal["reference", "copy"] = in_section("Data", "reference", names=INGESTS)
    """`reference` reads the files of a folder where they lie; `copy` copies them into the lake."""
    vocabulary: OptionalUri = in_section("Data", "", examples=["s3://my-records/vocabulary.csv"])
    """Names of the labels: the published vocabulary.csv, or a text file of a name a line; empty to use numbers."""
    classes: int = in_section("Data", 0, title="Number of labels", ge=0, le=100_000)
    """Number of labels; 0 for as many as the vocabulary, the published set, or else the records have."""
    max_reject_share: float = in_section("Data", 0.01, title="Rejects at most (share)", ge=0, le=1)
    """The run fails when more than this share of its files, or of their records, cannot be used."""
    batch_mb: int = in_section("Data", 4096, title="Files for one task (MB)", ge=1, le=10_000_000)
    """Files are handed to a task in batches of about so many megabytes."""

    mirror: HttpUrl = in_section("Mirror", "https://storage.googleapis.com/us.data.yt8m.org")
    """Where published files lie, as <mirror>/<partition>/<file>; its operator must have allowed it."""
    plans: HttpUrl = in_section("Mirror", "https://storage.googleapis.com/data.yt8m.org")
    """Where their lists lie, as <plans>/<version>/download_plans/<level>_<split>.json."""
    train_partition: Partition = in_section("Mirror", "2/frame/train")
    """Partition to train on, e.g. `2/frame/train`, `2/video/train`."""
    train_shard: DownloadShard = in_section("Mirror", "1,100")
    """Which share of its files, as in the published download: `i,n` is the i-th of n."""
    validation_partition: Partition = in_section("Mirror", "2/frame/validate")
    """Partition to validate on; one that is published without labels is refused."""
    validation_shard: DownloadShard = in_section("Mirror", "1,100")
    """Which share of its files."""
    fetch_at_once: int = in_section("Mirror", 4, title="Files at once", ge=1, le=32)
    """Files that a task fetches or reads at once."""


class TrainOnRecordsSpec(ClusterRun, RecordsWork):
    """Train and evaluate a classifier on YouTube-8M records that somebody made already."""

    @model_validator(mode="after")
    def _partitions_are_of_one_kind(self) -> Self:
        (version, level, _), (other, other_level, _) = self.partitions
        if self.origin == "mirror" and (version, level) != (other, other_level):
            raise ValueError(
                f"validation_partition: expected one of {version}/{level}/…, as train_partition is, "
                f"found {self.validation_partition}"
            )
        return self

    @property
    def partitions(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Version, level and split of both partitions."""
        return tuple(self.train_partition.split("/")), tuple(self.validation_partition.split("/"))

    @property
    def copies(self) -> bool:
        """Whether files are copied into the lake, from a mirror or from a folder."""
        return self.origin == "mirror" or self.ingest == "copy"

    @property
    def published_labels(self) -> int:
        """Labels of the published set that is fetched; 0 where none is."""
        return PUBLISHED_LABELS[self.partitions[0][0]] if self.origin == "mirror" else 0
