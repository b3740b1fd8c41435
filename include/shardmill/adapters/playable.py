"""Clips that play in a page: small enough, in what every browser decodes, as ``data:`` URIs."""

from __future__ import annotations

import base64
import io
from fractions import Fraction

import av
from av.audio.resampler import AudioResampler
from av.error import FFmpegError
from av.video.stream import VideoStream

MAX_BYTES = 150_000
"""Of a clip as it is embedded; base64 adds a third."""
_WIDEST = 256
"""Pixels of a clip that is encoded anew; never scaled up."""
_QUALITIES = ("30", "38")
"""CRF of H.264, tried in turn until the clip is small enough."""
_SOUND_RATE = 32_000
_SOUND_BITS = 48_000


class UnplayableError(ValueError):
    """A clip holds no video, or does not become small enough."""


def playable(clip: bytes, most: int = MAX_BYTES) -> str:
    """Give a clip as it can be embedded: as it is where that will do, else encoded anew.

    Args:
        clip: the bytes of a video file of a few seconds.
        most: bytes that the video may have, before base64.

    Raises:
        UnplayableError: where the bytes are no video, or stay too large.
    """
    try:
        if len(clip) <= most and _plays_everywhere(clip):
            return _uri(clip)
        for quality in _QUALITIES:
            smaller = _encode(clip, quality)
            if len(smaller) <= most:
                return _uri(smaller)
    except FFmpegError as error:
        raise UnplayableError(f"expected a clip with a video stream, libav says: {error.strerror}") from error
    raise UnplayableError(f"expected a clip that fits into {most:,} bytes, the smallest has {len(smaller):,}")


def _uri(clip: bytes) -> str:
    return "data:video/mp4;base64," + base64.b64encode(clip).decode("ascii")


def _video_of(container: av.container.InputContainer) -> VideoStream:
    if not container.streams.video:
        raise UnplayableError("expected a clip with a video stream, found none")
    return container.streams.video[0]


def _plays_everywhere(clip: bytes) -> bool:
    """Tell whether it is an MP4 of H.264 in 4:2:0, with AAC or no sound, all of which can be decoded."""
    with av.open(io.BytesIO(clip), mode="r") as container:
        video = _video_of(container)
        context = video.codec_context
        sounds = [stream.codec_context.name for stream in container.streams.audio]
        plain = "mp4" in container.format.name and (context.name, context.pix_fmt) == ("h264", "yuv420p")
        return plain and all(name == "aac" for name in sounds) and sum(1 for _ in container.decode()) > 0


def _encode(clip: bytes, quality: str) -> bytes:
    target = io.BytesIO()
    with av.open(io.BytesIO(clip), mode="r") as source, av.open(target, "w", format="mp4") as made:
        pictures = _video_of(source)
        width = min(_WIDEST, pictures.width) // 2 * 2
        height = max(2, round(pictures.height * width / pictures.width / 2) * 2)
        video = made.add_stream("libx264", rate=pictures.average_rate or Fraction(25))
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.options = {"crf": quality, "preset": "veryfast"}
        sound = made.add_stream("aac", rate=_SOUND_RATE, layout="mono") if source.streams.audio else None
        if sound is not None:
            sound.bit_rate = _SOUND_BITS
        resampler = AudioResampler(format="fltp", layout="mono", rate=_SOUND_RATE)
        for frame in source.decode(*[pictures, *source.streams.audio[:1]]):
            if isinstance(frame, av.VideoFrame):
                made.mux(video.encode(frame.reformat(width=width, height=height, format="yuv420p")))
            elif sound is not None and isinstance(frame, av.AudioFrame):
                for heard in resampler.resample(frame):
                    made.mux(sound.encode(heard))
        if sound is not None:
            made.mux(sound.encode(None))
        made.mux(video.encode(None))
    return target.getvalue()
