"""Ablations: the inputs that show what a model's result rests on."""

from __future__ import annotations

from collections.abc import Sequence
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

FULL = "full"
"""The input of which nothing is taken away."""
CONSTANT = "constant"
"""No model at all: the labels' frequencies in training as scores of every video."""

Inputs = npt.NDArray[np.uint8] | npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class TrainingMeans:
    """Means of the features over the training records, as the model takes features."""

    rgb: Inputs
    """[1024]; uint8 over the real frames of all records, or float32 over records of video level."""
    audio: Inputs
    """[128]."""


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


def variants(inputs: Inputs, ids: Sequence[str], means: TrainingMeans | None, seed: int) -> dict[str, Inputs]:
    """Give what the model is fed with by name, `FULL` first; what makes no sense for the inputs is left out.

    Args:
        inputs: uint8 [videos, max_frames, 1152], or float32 [videos, 1152] at video level.
        ids: the videos' ids; with the seed they decide each video's random order, whatever batch it is in.
        means: None where they are unknown: then neither stream can be taken away.
    """
    made: dict[str, Inputs] = {FULL: inputs}
    if means is not None:
        made |= _without_streams(inputs, means)
    if inputs.ndim == 3:
        made["shuffled_frames"] = np.stack(
            [
                shuffle_frames(video, np.random.default_rng([seed, crc32(name.encode())]))
                for video, name in zip(inputs, ids, strict=True)
            ]
        )
    return made


def _without_streams(inputs: Inputs, means: TrainingMeans) -> dict[str, Inputs]:
    if inputs.ndim == 3:
        frames, rgb, audio = (array.astype(np.uint8, copy=False) for array in (inputs, means.rgb, means.audio))
        return {"rgb_only": replace_audio(frames, audio), "audio_only": replace_rgb(frames, rgb)}
    rgb_only, audio_only = inputs.copy(), inputs.copy()
    rgb_only[:, RGB_VALUES:] = means.audio
    audio_only[:, :RGB_VALUES] = means.rgb
    return {"rgb_only": rgb_only, "audio_only": audio_only}


def constant_scores(label_counts: tuple[int, ...], records: int, videos: int) -> npt.NDArray[np.float32]:
    """Predict for every video how often each label occurs in training; float32 [videos, labels]."""
    return np.tile(np.asarray(label_counts, np.float32) / np.float32(records), (videos, 1))
