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
            _prove_picture(container, clip, time_base)
        if clip.samples:
            with av.open(str(clip.path), format="mp4") as container:
                _prove_sound(container, clip)
    except av.error.FFmpegError as error:
        raise VideoError("not_proven", f"clip {clip.plan.number} does not decode by itself: {error}") from error


def _prove_picture(container: InputContainer, clip: WrittenClip, time_base: Fraction) -> None:
    plan, stream = clip.plan, container.streams.video[0]
    length = Fraction(stream.duration or 0) * (stream.time_base or 0)
    _expect(clip, "length in seconds", plan.length * time_base, length, slack=_EDIT_SECONDS)
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {"err_detect": "explode"}
    shown: list[Fraction] = []
    for frame in container.decode(stream):
        assert isinstance(frame, VideoFrame)  # noqa: S101 - it was decoded from a video stream
        if not shown and not frame.key_frame:
            raise VideoError("not_proven", f"clip {plan.number} does not begin with a key frame")
        shown.append((frame.pts or 0) * (frame.time_base or Fraction(0)))
    _expect(clip, "number of frames", len(plan.times), len(shown))
    for expected, found in zip(plan.times, shown, strict=True):
        _expect(clip, "time of a frame", expected * time_base, found)


def _prove_sound(container: InputContainer, clip: WrittenClip) -> None:
    stream = container.streams.audio[0]
    samples, start = 0, None
    for frame in container.decode(stream):
        assert isinstance(frame, AudioFrame)  # noqa: S101 - it was decoded from an audio stream
        start = (frame.pts or 0) * (frame.time_base or Fraction(0)) if start is None else start
        samples += frame.samples
    _expect(clip, "start of the sound", Fraction(0), start or Fraction(0), slack=_EDIT_SECONDS)
    _expect(clip, "samples of sound", clip.samples, samples, slack=_AAC_FRAME)


def _expect(
    clip: WrittenClip, what: str, expected: Fraction | int, found: Fraction | int, *, slack: Fraction | int = 0
) -> None:
    if abs(expected - found) > slack:
        raise VideoError(
            "not_proven", f"clip {clip.plan.number}: expected {what} {float(expected):.6f}, found {float(found):.6f}"
        )
