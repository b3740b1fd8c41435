"""A batch of videos as a model takes it, and what decides how batches are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from shardmill.adapters.records import Record, VideoRecord
from shardmill.core.batch_pool import default_buckets
from shardmill.core.frames import FRAME_VALUES, RGB_VALUES

Item = Record | VideoRecord


@dataclass(frozen=True, eq=False)
class Batch:
    """Some videos, always as many: what is missing is filled by repeating the last, with weight 0.

    Not by padding, for cuDNN's LSTM refuses a video that is nothing else.
    """

    ids: tuple[str, ...]
    """One for each row."""
    frames: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    """uint8 [videos, frames, 1152], where a row of zeros is padding and no real frame is; at video level float32
    [videos, 1152], the means of the dequantised values."""
    truth: npt.NDArray[np.float32]
    """float32 [videos, labels] of zeros and ones; [videos, 0] where no labels are asked for."""
    weights: npt.NDArray[np.float32]
    """float32 [videos]: 1 for a video, 0 for a filler; the fillers stand behind the videos."""
    records: int
    """Number of videos that are no fillers, at least 1."""


@dataclass(frozen=True)
class BatchPlan:
    """What decides, with the share and the rank, which batches come in which order."""

    batch_size: int
    labels: int | None
    """Number of labels; None where they are not needed, as for prediction."""
    max_frames: int
    """Frames of the longest record; a longer one is a reject. Of no account at video level."""
    level: Literal["frame", "video"] = "frame"
    """What the batches hold. At video level both kinds of records are read."""
    seed: int = 0
    buckets: tuple[int, ...] = ()
    """Lengths that batches may have, in frames, ascending, the last at least ``max_frames``; without any
    ``default_buckets(max_frames)``."""
    shuffle: bool = True
    """Whether the order changes with the epoch; without it parts and records come in the order of the share, as far
    as the buckets allow."""
    memory_mb: int = 256
    """Records kept in memory between epochs, so that they need not be read again; the batches are the same without."""
    window_mb: int = 128
    """Records among which the next batch is drawn (at least two batches)."""
    max_reject_share: float = 0.05
    """Largest share of the records that may be rejects, 0 to 1."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"expected batch_size above 0, found {self.batch_size}")
        if list(self.lengths) != sorted(set(self.lengths)) or self.lengths[0] < 1:
            raise ValueError(f"expected buckets as ascending lengths above 0, found {self.buckets}")
        if self.lengths[-1] < self.max_frames:
            raise ValueError(f"expected buckets up to max_frames = {self.max_frames}, found {self.buckets}")

    @property
    def lengths(self) -> tuple[int, ...]:
        """The buckets that are used."""
        return self.buckets or default_buckets(self.max_frames)


def assemble(items: Sequence[Item], length: int, plan: BatchPlan) -> Batch:
    """Copy records into the arrays of a batch.

    Args:
        items: 1 to ``batch_size`` records, all of the kind that the plan's level asks for.
        length: frames of the batch, those of its longest record or more.
    """
    count, size = len(items), plan.batch_size
    frames = _means(items, size) if plan.level == "video" else _frames(items, size, length)
    truth = np.zeros((size, plan.labels or 0), np.float32)
    if plan.labels is not None:
        for row, item in zip(truth, items, strict=False):
            row[list(item.labels)] = 1
    frames[count:], truth[count:] = frames[count - 1], truth[count - 1]
    weights = np.zeros(size, np.float32)
    weights[:count] = 1
    ids = tuple(item.id for item in items)
    return Batch(ids + ids[-1:] * (size - count), frames, truth, weights, count)


def _frames(items: Sequence[Item], size: int, length: int) -> npt.NDArray[np.uint8]:
    frames = np.empty((size, length, FRAME_VALUES), np.uint8)
    seconds = np.zeros(size, np.int64)
    for number, (row, item) in enumerate(zip(frames, items, strict=False)):
        assert isinstance(item, Record)  # noqa: S101  (by the plan's level)
        seconds[number] = count = len(item.rgb)
        row[:count, :RGB_VALUES] = item.rgb
        row[:count, RGB_VALUES:] = item.audio
        row[count:] = 0
    _lift_zeros(frames, np.arange(length) < seconds[:, None])
    return frames


def _lift_zeros(frames: npt.NDArray[np.uint8], real: npt.NDArray[np.bool_]) -> None:
    # As core.frames does; there all values are looked at, which takes longer than the rest of reading. Hardly any
    # frame begins with eight zeros.
    suspects = np.nonzero(real & (frames.view(np.uint64)[..., 0] == 0))
    empty = ~frames[suspects].any(axis=1)
    frames[suspects[0][empty], suspects[1][empty], 0] = 1


def _means(items: Sequence[Item], size: int) -> npt.NDArray[np.float32]:
    means = np.zeros((size, FRAME_VALUES), np.float32)
    for row, item in zip(means, items, strict=False):
        assert isinstance(item, VideoRecord)  # noqa: S101  (by the plan's level)
        row[:RGB_VALUES], row[RGB_VALUES:] = item.mean_rgb, item.mean_audio
    return means
