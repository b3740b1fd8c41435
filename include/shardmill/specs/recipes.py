"""Recipes: what is asked of a stage. The short hash of a recipe names the folder of its output."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shardmill.specs.value import OptionalUri, Spec, short_hash

Preset = Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"]


class SplitRecipe(Spec):
    """How videos are cut into clips."""

    version: int = 3
    """Raised by hand when the code's output changes."""
    clip_seconds: float = Field(2.0, gt=0, le=60)
    """Length of a clip in seconds; the last clip of a video may be shorter."""
    width: int = Field(256, ge=16, le=4096, multiple_of=2)
    """Width of a clip in pixels; videos are scaled down or up and padded with black to fit."""
    height: int = Field(128, ge=16, le=4096, multiple_of=2)
    """Height of a clip in pixels."""
    preset: Preset = "veryfast"
    """Speed of the H.264 encoder against the size of its output."""
    crf: float = Field(21.3, ge=0, le=51)
    """Quality of the H.264 encoder: lower is better and larger."""
    copy_matching: bool = True
    """Take pictures over as they are where the source has this size and key frames where clips begin."""
    audio_kbps: int = Field(56, ge=16, le=320)
    """Bit rate of the clips' AAC audio in kilobits a second."""
    audio_hz: int = Field(24_000, ge=8_000, le=48_000)
    """At most so many samples a second: more than fit into `audio_kbps` only cost."""
    max_part_mb: int = Field(256, ge=1, le=4096)
    """A part is closed behind the video with which it reaches so many megabytes."""
    max_part_clips: int = Field(10_000, ge=1, le=1_000_000)
    """A part is closed behind the video with which it reaches so many clips."""

    @property
    def hash(self) -> str:
        return short_hash(self.model_dump())


class FeatureRecipe(Spec):
    """How clips become YouTube-8M records."""

    version: int = 1
    """Raised by hand when the code's output changes."""
    split: SplitRecipe
    """The recipe of the clips."""
    extractor: str
    """Name of the frame extractor."""
    extractor_weights: OptionalUri = ""
    """Weights of the extractor, for those that need them."""
    projection: OptionalUri = ""
    """An .npz with `components` [n, 1024] and `mean` [n] (PCA); empty for a projection seeded by `projection_seed`."""
    projection_seed: int = 8
    """Seed of the random projection to 1024 values."""
    max_frames: int = Field(300, ge=1, le=300)
    """At most so many seconds of a video become frames of its record."""
    validation_share: float = Field(0.2, ge=0, lt=1)
    """Share of the videos kept for validation, chosen by the hash of the video's id."""
    max_part_mb: int = Field(128, ge=1, le=4096)
    """A part is closed with the record with which its frames reach so many megabytes."""
    max_part_records: int = Field(100_000, ge=1, le=1_000_000)
    """A part is closed with so many records."""
    labels: str
    """Hash of the label table and of its vocabulary."""

    @property
    def hash(self) -> str:
        return short_hash(self.model_dump())
