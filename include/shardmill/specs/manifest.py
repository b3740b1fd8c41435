"""Manifests: the JSON that commits one revision of one shard at one stage."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from shardmill.specs.value import Spec, canonical_json

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


class Manifest(Spec):
    """One committed revision of a shard; holds no time, host or attempt."""

    stage: Stage
    dataset: str
    shard: int = Field(ge=0)
    revision: int = Field(ge=0)
    recipe_hash: str = ""
    recipe: dict[str, Any] = Field(default_factory=dict)
    source: SourceObject
    tools: dict[str, str] = Field(default_factory=dict)
    """Builds of the tools; noted, never a reason to do a shard again."""
    samples_in: int = Field(ge=0)
    """Samples found in the source: published videos and rejects together."""
    parts: tuple[Part, ...]
    videos: tuple[Video, ...] = ()
    rejects: tuple[Reject, ...] = ()

    def to_json(self) -> bytes:
        return canonical_json(self.model_dump(mode="json"))
