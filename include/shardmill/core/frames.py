"""Frames: a video's features as one row of bytes a second, padded with rows of zeros to a common length."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

RGB_VALUES = 1024
AUDIO_VALUES = 128
FRAME_VALUES = RGB_VALUES + AUDIO_VALUES

Bytes = npt.NDArray[np.uint8]
AnyValue = TypeVar("AnyValue", bound=np.generic)


def real_frames(frames: Bytes) -> npt.NDArray[np.bool_]:
    """Tell the real frames from the padding: a frame of zeros is padding."""
    return np.asarray(frames.any(axis=-1), dtype=np.bool_)


def _lift_zeros(frames: Bytes, real: npt.NDArray[np.bool_]) -> Bytes:
    # A real frame of zeros would be taken for padding: its first value is raised by one of 255 steps.
    frames[real & ~real_frames(frames), 0] = 1
    return frames


def stack_frames(rgb: Bytes, audio: Bytes, max_frames: int) -> Bytes:
    """Put a video's two streams side by side and pad them.

    Returns:
        uint8 [max_frames, 1152]; rows behind the video's end are zeros, no other row is.
    """
    seconds = len(rgb)
    if rgb.shape != (seconds, RGB_VALUES) or audio.shape != (seconds, AUDIO_VALUES):
        raise ValueError(f"expected rgb [n, 1024] and audio [n, 128], found {rgb.shape} and {audio.shape}")
    if not 1 <= seconds <= max_frames:
        raise ValueError(f"expected 1 to {max_frames} frames in a record, found {seconds}")
    frames = np.zeros((max_frames, FRAME_VALUES), np.uint8)
    frames[:seconds, :RGB_VALUES] = rgb
    frames[:seconds, RGB_VALUES:] = audio
    return _lift_zeros(frames, np.arange(max_frames) < seconds)


def fill_batch(frames: npt.NDArray[AnyValue], size: int) -> npt.NDArray[AnyValue]:
    """Fill a batch of videos up to ``size`` by repeating the last: a model is traced anew for every other size.

    Not by padding, for cuDNN's LSTM refuses a video that is nothing else.
    """
    return np.concatenate([frames, np.repeat(frames[-1:], size - len(frames), axis=0)])


def multi_hot(labels: tuple[int, ...], count: int) -> npt.NDArray[np.float32]:
    """Write labels as float32 [count] of zeros and ones."""
    if any(not 0 <= label < count for label in labels):
        raise ValueError(f"expected labels from 0 to {count - 1}, found {labels}: the records have another vocabulary")
    row = np.zeros(count, np.float32)
    row[list(labels)] = 1
    return row


def replace_audio(frames: Bytes, mean: Bytes) -> Bytes:
    """Set the audio of every real frame to ``mean``, uint8 [128]."""
    return _replace(frames, slice(RGB_VALUES, FRAME_VALUES), mean)


def replace_rgb(frames: Bytes, mean: Bytes) -> Bytes:
    """Set the picture of every real frame to ``mean``, uint8 [1024]."""
    return _replace(frames, slice(0, RGB_VALUES), mean)


def _replace(frames: Bytes, columns: slice, mean: Bytes) -> Bytes:
    real = real_frames(frames)
    changed = frames.copy()
    changed[..., columns] = np.where(real[..., None], mean, changed[..., columns])
    return _lift_zeros(changed, real)


def shuffle_frames(frames: Bytes, random: np.random.Generator) -> Bytes:
    """Bring one video's real frames into random order; the padding stays behind them.

    Args:
        frames: uint8 [max_frames, 1152].
    """
    count = int(real_frames(frames).sum())
    shuffled = frames.copy()
    shuffled[:count] = frames[random.permutation(count)]
    return shuffled
