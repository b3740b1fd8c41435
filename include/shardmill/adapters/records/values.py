"""A video's record, at the level of its frames and at the level of the video."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shardmill.adapters.records.framing import RecordError
from shardmill.core.frames import AUDIO_VALUES, RGB_VALUES
from shardmill.core.quantise import BIAS, STEP


@dataclass(frozen=True, eq=False)
class Record:
    """One video, a frame a second."""

    id: str
    labels: tuple[int, ...]
    rgb: np.ndarray
    """uint8 [seconds, 1024]."""
    audio: np.ndarray
    """uint8 [seconds, 128]."""
    has_labels: bool = True
    """Whether there is a feature ``labels`` at all, be it empty: the published test split has none."""


@dataclass(frozen=True, eq=False)
class VideoRecord:
    """One video, as the means over its frames."""

    id: str
    labels: tuple[int, ...]
    mean_rgb: npt.NDArray[np.float32]
    """float32 [1024]."""
    mean_audio: npt.NDArray[np.float32]
    """float32 [128]."""
    has_labels: bool = True
    """Whether there is a feature ``labels`` at all, be it empty: the published test split has none."""


def mean_record(record: Record) -> VideoRecord:
    """Give the means of a record's dequantised frames. Raises RecordError where it has none."""
    if not len(record.rgb):
        raise RecordError("expected at least one frame, found none")
    means = [
        (frames.mean(axis=0, dtype=np.float64) * STEP + BIAS).astype(np.float32)
        for frames in (record.rgb, record.audio)
    ]
    return VideoRecord(record.id, record.labels, means[0], means[1], record.has_labels)


def check_frames(record: Record) -> None:
    """Refuse a record that could not be written. Raises RecordError."""
    for name, frames, values in (("rgb", record.rgb, RGB_VALUES), ("audio", record.audio, AUDIO_VALUES)):
        if frames.dtype != np.uint8 or frames.ndim != 2 or frames.shape[1] != values:
            raise RecordError(
                f"expected {name} as uint8 [seconds, {values}], found {frames.dtype} {list(frames.shape)}"
            )
    if len(record.rgb) != len(record.audio):
        raise RecordError(
            f"expected as many frames as seconds of audio, found {len(record.rgb)} and {len(record.audio)}"
        )


def check_means(record: VideoRecord) -> None:
    """Refuse a record that holds other means than a model takes. Raises RecordError."""
    for name, mean, values in (
        ("mean_rgb", record.mean_rgb, RGB_VALUES),
        ("mean_audio", record.mean_audio, AUDIO_VALUES),
    ):
        if mean.dtype != np.float32 or mean.shape != (values,):
            raise RecordError(f"expected {name} as float32 [{values}], found {mean.dtype} {list(mean.shape)}")
        if not np.isfinite(mean).all():
            raise RecordError(f"expected finite values in {name}, found {mean[~np.isfinite(mean)][0]}")
