"""Thumbnails: one small picture of a clip, as a ``data:`` URI that a page can hold."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from fractions import Fraction

import av
from av.error import FFmpegError
from av.video.frame import VideoFrame

MAX_WIDTH = 192
"""Pixels; a picture is never scaled up."""
_QUALITY = {"qmin": "6", "qmax": "6"}
"""Of the JPEG encoder, 1 to 31, lower is better: about 4 kB a picture."""


class NoPictureError(ValueError):
    """A clip holds no frame that can be shown."""


def thumbnail(clip: bytes, at: float = 0.5) -> str:
    """Make a JPEG of one frame of a clip.

    Args:
        clip: the bytes of a video file of a few seconds; every frame up to the one shown is decoded.
        at: which frame, as a share of the clip's frames, from 0 (first) to 1 (last).

    Raises:
        NoPictureError: where the bytes are no video, or hold no whole frame.
    """
    try:
        frame = _frame(clip, at)
        jpeg = _encode(frame)
    except FFmpegError as error:
        raise NoPictureError(f"expected a clip with a video stream, libav says: {error.strerror}") from error
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _frame(clip: bytes, at: float) -> VideoFrame:
    with av.open(io.BytesIO(clip), mode="r") as container:
        if not container.streams.video:
            raise NoPictureError("expected a clip with a video stream, found none")
        stream = container.streams.video[0]
        wanted = round(max(0.0, min(1.0, at)) * max(0, stream.frames - 1))
        found = None
        for index, frame in enumerate(_frames(container.decode(stream))):
            found = frame
            if index >= wanted:
                break
    if found is None:
        raise NoPictureError("expected at least one frame, found none")
    return found


def _frames(decoded: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """Yield frames until the first that is damaged: what came before it can still be shown."""
    try:
        yield from decoded
    except FFmpegError:
        return


def _encode(frame: VideoFrame) -> bytes:
    width = min(MAX_WIDTH, frame.width)
    height = max(2, round(frame.height * width / frame.width))
    picture = frame.reformat(width=width, height=height, format="yuvj420p")
    # The frame's own time base and time may not suit the encoder; a picture has neither.
    picture.pts, picture.time_base = 0, Fraction(1, 25)
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height = width, height
    encoder.pix_fmt, encoder.time_base = "yuvj420p", Fraction(1, 25)
    encoder.options = _QUALITY
    return b"".join(bytes(packet) for packet in [*encoder.encode(picture), *encoder.encode(None)])
