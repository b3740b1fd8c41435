"""Manifests, the JSON that commits one revision of one shard at one stage, and the receipts on the way there."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from shardmill.specs.value import Sealed, Spec, short_hash

Stage = Literal["raw", "clips", "features"]
Subset = Literal["", "train", "validation"]


class SourceObject(Spec):
    """The object that a shard was made from, as it was when it was read."""

    uri: str
    size: int = Field(ge=0)
    """Bytes."""
    version: str
    """ETag or generation at the source, or the SHA-256 of a manifest of the stage before."""


class Part(Spec):
    """One output file of a shard."""

    name: str
    """Key below the stage's folder."""
    size: int = Field(ge=0)
    """Bytes."""
    sha256: str
    samples: int = Field(ge=0)
    """Clips or records in it; for a raw shard 1, the file itself."""
    subset: Subset = ""
    """Whether its records are for training or for validation."""


class Reject(Spec):
    """An input that could not be used."""

    key: str
    """Key of the sample, as found in the data; never used as a path."""
    reason: str
    """Class of the reason, e.g. `not_a_video`, `damaged`, `time_out`."""
    message: str
    """What was expected and what was found."""
    detail: str = ""
    """The last lines of the tool that refused it."""


class Video(Spec):
    """One published video of a shard."""

    key: str
    clips: int = Field(0, ge=0)
    frames: int = Field(0, ge=0)
    """Frames of the source (clips) or seconds in the record (features)."""
    seconds: float = 0.0
    """Length of the video stream."""
    labels: tuple[str, ...] = ()
    """Labels named by the video's .info.json (clips), or those of the record (features)."""
    subset: Subset = ""
    part: int = Field(0, ge=0)
    """Which of the manifest's parts holds it."""
    offsets: tuple[int, ...] = ()
    """Where each clip's mp4 (or the one record) begins in the part, in bytes; clips ascend by number."""
    sizes: tuple[int, ...] = ()
    """Bytes of each clip's mp4 (or of the one record with its TFRecord frame)."""
    gaps: tuple[int, ...] = ()
    """Numbers of spans below the last clip that hold no frame, and so have no clip."""
    copied: bool = False
    """Whether the source's pictures were taken over as they are, not encoded again."""


class Draft(Spec):
    """Which revision of which shard is built, of what, and how: equal values may go on with each other's parts."""

    stage: Stage
    dataset: str
    shard: int = Field(ge=0)
    revision: int = Field(ge=0)
    recipe_hash: str = ""
    recipe: dict[str, Any] = Field(default_factory=dict)
    source: SourceObject
    """Of raw shards and clips: the object at the source. Of features: the manifest of the clips."""

    @property
    def inputs(self) -> str:
        """Short hash of all that is above; names the receipts."""
        return short_hash(self.model_dump(mode="json"))


class Receipt(Sealed):
    """What a part holds, stored beside it: a retry goes on behind it."""

    inputs: str
    """Of the draft that the part was built for."""
    part: Part
    next_sample: int = Field(ge=0)
    """Number of the first sample of the source that is neither in this part nor in one before it, nor refused."""
    videos: tuple[Video, ...] = ()
    """Those in this part."""
    rejects: tuple[Reject, ...] = ()
    """Those found since the part before."""
    behind: str = ""
    """SHA-256 of the part before it in its chain."""
    source_offset: int = Field(0, ge=0)
    """Where the next sample begins in the source, in bytes, where the source is read as a stream."""
    source_sha256: str = ""
    """Of all bytes before that: a retry makes sure that it reads the same."""


class Manifest(Draft, Sealed):
    """One committed revision of a shard; holds no time, host or attempt."""

    tools: dict[str, str] = Field(default_factory=dict)
    """Builds of the tools; noted, never a reason to do a shard again."""
    samples_in: int = Field(ge=0)
    """Samples found in the source: published videos and rejects together."""
    parts: tuple[Part, ...]
    """All parts of the shard, those of earlier revisions too; none for a raw shard that is used where it lies."""
    videos: tuple[Video, ...] = ()
    rejects: tuple[Reject, ...] = ()
