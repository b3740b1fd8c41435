"""Ablations: the inputs that show what a model's result rests on."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np
import numpy.typing as npt

from shardmill.core.frames import (
    FRAME_VALUES,
    RGB_VALUES,
    Bytes,
    real_frames,
    replace_audio,
    replace_rgb,
    shuffle_frames,
)

VARIANTS = ("full", "rgb_only", "audio_only", "shuffled_frames")
"""The model's inputs, in the order in which they are scored."""


@dataclass(frozen=True, eq=False)
class TrainingMeans:
    """Means of the features over the real frames of the training records."""

    rgb: Bytes
    """uint8 [1024]."""
    audio: Bytes
    """uint8 [128]."""


@dataclass(frozen=True, eq=False)
class FrameSums:
    """Sums over records, from which the means and the label frequencies come; sums of parts add up."""

    records: int
    frames: int
    values: npt.NDArray[np.int64]
    """int64 [1152]."""
    labels: npt.NDArray[np.int64]
    """int64 [labels]."""

    def __add__(self, other: FrameSums) -> FrameSums:
        return FrameSums(
            self.records + other.records,
            self.frames + other.frames,
            self.values + other.values,
            self.labels + other.labels,
        )

    @property
    def means(self) -> TrainingMeans:
        mean = np.rint(self.values / max(self.frames, 1)).astype(np.uint8)
        return TrainingMeans(mean[:RGB_VALUES], mean[RGB_VALUES:])


def no_sums(labels: int) -> FrameSums:
    """Give the sums over no record."""
    return FrameSums(0, 0, np.zeros(FRAME_VALUES, np.int64), np.zeros(labels, np.int64))


def sum_record(frames: Bytes, truth: npt.NDArray[np.float32]) -> FrameSums:
    """Give the sums of one record; padding is zero and adds nothing."""
    return FrameSums(1, int(real_frames(frames).sum()), frames.sum(axis=0, dtype=np.int64), truth.astype(np.int64))


def variants(frames: Bytes, ids: list[str], means: TrainingMeans, seed: int) -> list[Bytes]:
    """Give the inputs of a batch, ordered as VARIANTS.

    Args:
        frames: uint8 [videos, max_frames, 1152].
        ids: the videos' ids; with the seed they decide each video's random order, whatever batch it is in.
    """
    shuffled = np.stack(
        [
            shuffle_frames(video, np.random.default_rng([seed, crc32(name.encode())]))
            for video, name in zip(frames, ids, strict=True)
        ]
    )
    return [frames, replace_audio(frames, means.audio), replace_rgb(frames, means.rgb), shuffled]


def constant_scores(label_counts: tuple[int, ...], records: int, videos: int) -> npt.NDArray[np.float32]:
    """Predict for every video how often each label occurs in training; float32 [videos, labels]."""
    return np.tile(np.asarray(label_counts, np.float32) / np.float32(records), (videos, 1))
