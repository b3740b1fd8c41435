"""Prove a clip: read it back as a stranger would."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.video.frame import VideoFrame

from shardmill.adapters.video.error import VideoError
from shardmill.adapters.video.muxing import WrittenClip

if TYPE_CHECKING:
    from shardmill.adapters.clip_reading import ClipTaking

_AAC_FRAME = 1024
# Rounding of an MP4 file's edit list, which counts milliseconds.
_EDIT_SECONDS = Fraction(1, 1000)

Pictures = Iterator[tuple[int, int]]
"""Of each frame of a source: when it is shown, in ticks, and the checksum of its picture."""


@dataclass(frozen=True)
class Beside:
    """What is done with the frames of a clip besides."""

    pictures: Pictures | None = None
    """The source's pictures from this clip's first on, which the clip's must be."""
    taking: ClipTaking | None = None
    """Takes the frames and the sound that features are made of."""


_NOTHING = Beside()


def prove(clip: WrittenClip, time_base: Fraction, beside: Beside = _NOTHING) -> None:
    """Decode a clip by itself and compare it with its plan.

    Raises:
        VideoError: where frames, times, length or sound are not as planned.
    """
    try:
        with av.open(str(clip.path), format="mp4") as container:
            _prove(container, clip, time_base, beside)
    except av.error.MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise VideoError("not_proven", f"clip {clip.plan.number} does not decode by itself: {error}") from error


def picture_checksum(frame: VideoFrame) -> int:
    """Sum up a picture's planes, without what pads their lines."""
    return zlib.crc32(frame.to_ndarray().data)


def _prove(container: InputContainer, clip: WrittenClip, time_base: Fraction, beside: Beside) -> None:
    plan, stream = clip.plan, container.streams.video[0]
    ticks = time_base / (stream.time_base or Fraction(1))  # of the file in one of the plan
    length = (stream.duration or 0) / ticks
    _expect(clip, "length in seconds", plan.length * time_base, length * time_base, slack=_EDIT_SECONDS)
    # The filter that smooths the borders of blocks cannot fail, and nobody looks at these pictures.
    unseen = beside.pictures is None and beside.taking is None
    for coded in container.streams:
        coded.codec_context.thread_count = 1
        coded.codec_context.options = {"err_detect": "explode"} | ({"skip_loop_filter": "all"} if unseen else {})
    shown: list[int | None] = []
    heard, sound_start = 0, Fraction(0)
    take = beside.taking.take if beside.taking is not None else None
    for frame in container.decode():
        if take is not None and isinstance(frame, VideoFrame | AudioFrame):
            take(frame)
        if isinstance(frame, AudioFrame):
            if not heard:
                sound_start = (frame.pts or 0) * (frame.time_base or Fraction(0))
            heard += frame.samples
        elif isinstance(frame, VideoFrame):
            if not shown and not frame.key_frame:
                raise VideoError("not_proven", f"clip {plan.number} does not begin with a key frame")
            if beside.pictures is not None:
                _compare(clip, len(shown), frame, next(beside.pictures, None))
            shown.append(frame.pts)
    _expect(clip, "number of frames", len(plan.times), len(shown))
    above, below = ticks.numerator, ticks.denominator
    if [None if pts is None else pts * below for pts in shown] != [time * above for time in plan.times]:
        raise VideoError("not_proven", f"clip {plan.number}: expected its frames at other times than found")
    _expect(clip, "samples of sound", clip.samples, heard, slack=_AAC_FRAME)
    _expect(clip, "start of the sound", Fraction(0), sound_start, slack=_EDIT_SECONDS)


def _compare(clip: WrittenClip, index: int, frame: VideoFrame, source: tuple[int, int] | None) -> None:
    if index >= len(clip.plan.times):
        return  # counted at the end
    if source != (clip.plan.start + clip.plan.times[index], picture_checksum(frame)):
        raise VideoError("not_proven", f"clip {clip.plan.number}: frame {index} is not the source's")


def _expect(
    clip: WrittenClip, what: str, expected: Fraction | int, found: Fraction | int, *, slack: Fraction | int = 0
) -> None:
    if abs(Fraction(expected) - Fraction(found)) > slack:
        raise VideoError(
            "not_proven", f"clip {clip.plan.number}: expected {what} {float(expected):.6f}, found {float(found):.6f}"
        )
