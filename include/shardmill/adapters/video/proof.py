"""Prove a clip: read it back as a stranger would."""

from __future__ import annotations

from fractions import Fraction

import av
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.video.frame import VideoFrame

from shardmill.adapters.video.clips import WrittenClip
from shardmill.adapters.video.error import VideoError

_AAC_FRAME = 1024
# Rounding of an MP4 file's edit list, which counts milliseconds.
_EDIT_SECONDS = Fraction(1, 1000)


def prove(clip: WrittenClip, time_base: Fraction) -> None:
    """Decode a clip by itself and compare it with its plan.

    Raises:
        VideoError: where frames, times, length or sound are not as planned.
    """
    try:
        with av.open(str(clip.path), format="mp4") as container:
            _prove(container, clip, time_base)
    except av.error.FFmpegError as error:
        raise VideoError("not_proven", f"clip {clip.plan.number} does not decode by itself: {error}") from error


def _prove(container: InputContainer, clip: WrittenClip, time_base: Fraction) -> None:
    plan, stream = clip.plan, container.streams.video[0]
    length = (stream.duration or 0) * (stream.time_base or Fraction(0))
    _expect(clip, "length in seconds", plan.length * time_base, length, slack=_EDIT_SECONDS)
    for coded in container.streams:
        coded.codec_context.thread_count = 1
        coded.codec_context.options = {"err_detect": "explode"}
    shown: list[Fraction] = []
    heard: list[tuple[Fraction, int]] = []
    for frame in (frame for packet in container.demux() for frame in packet.decode()):
        if isinstance(frame, AudioFrame):
            heard.append((_moment(frame), frame.samples))
        elif isinstance(frame, VideoFrame):
            if not shown and not frame.key_frame:
                raise VideoError("not_proven", f"clip {plan.number} does not begin with a key frame")
            shown.append(_moment(frame))
    _expect(clip, "number of frames", len(plan.times), len(shown))
    for expected, found in zip(plan.times, shown, strict=True):
        _expect(clip, "time of a frame", expected * time_base, found)
    _expect(clip, "samples of sound", clip.samples, sum(samples for _, samples in heard), slack=_AAC_FRAME)
    if heard:
        _expect(clip, "start of the sound", Fraction(0), heard[0][0], slack=_EDIT_SECONDS)


def _moment(frame: AudioFrame | VideoFrame) -> Fraction:
    return (frame.pts or 0) * (frame.time_base or Fraction(0))


def _expect(
    clip: WrittenClip, what: str, expected: Fraction | int, found: Fraction | int, *, slack: Fraction | int = 0
) -> None:
    if abs(Fraction(expected) - Fraction(found)) > slack:
        raise VideoError(
            "not_proven", f"clip {clip.plan.number}: expected {what} {float(expected):.6f}, found {float(found):.6f}"
        )
