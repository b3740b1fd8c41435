"""Look at a video: which streams to use, and when each frame is shown."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from shardmill.adapters.video.error import VideoError
from shardmill.adapters.video.facts import describe

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
"""Demuxers that may be used; a playlist, which could name other files, is none of them."""
PROTOCOLS = "file,pipe,fd"
MAX_PIXELS = 8192 * 4352
_OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": PROTOCOLS}
AVI = "avi"
"""Knows when packets are decoded, and no more: what libav makes of that as times of presentation is not to be had."""
_MAGIC = ((4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (0, b"\x1a\x45\xdf\xa3"), (8, b"AVI "))


@dataclass(frozen=True)
class Look:
    """What the headers say of the picture."""

    codec: str
    pix_fmt: str
    width: int
    height: int
    has_square_pixels: bool


@dataclass(frozen=True)
class Probe:
    """What must be known to cut a video."""

    path: Path
    video: int
    """Index of the video stream."""
    audio: int | None
    """Index of the audio stream; None where there is none."""
    time_base: Fraction
    """Seconds of one tick of the video stream."""
    ticks: tuple[int, ...]
    """When each frame is shown, ascending, as the container says; empty where it does not."""
    last_ticks: int
    """How long the last frame is shown; 0 where the container does not say."""
    keys: frozenset[int]
    """Those of ``ticks`` at which the container promises a key frame."""
    look: Look
    facts: dict[str, Any]
    """Format and streams, named as ffprobe names them."""

    @property
    def sound_start(self) -> Fraction | None:
        """Time of the first sound, in seconds, as the file says; None where it does not."""
        start = None if self.audio is None else self.facts["streams"][self.audio].get("start_time")
        return None if start is None else Fraction(start)

    @property
    def sample_rate(self) -> int:
        """Of the sound, a second; 0 where the file does not say."""
        return 0 if self.audio is None else int(self.facts["streams"][self.audio]["sample_rate"])


def probe(path: Path, name: str) -> Probe:
    """Read a video's headers and the times of its packets; no frame is decoded.

    Args:
        name: what the file is called in its shard.

    Raises:
        VideoError: where the file is no video that can be used.
    """
    try:
        with open_video(path) as container:
            stream = _video_stream(container)
            facts = describe(container, name)
            audio = _audio_index(container)
            index, time_base = stream.index, stream.time_base  # once the container is closed, they read as garbage
            look = _look(stream)
            ticks, last_ticks, keys = _packet_ticks(container, stream)
    except av.error.MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise VideoError("damaged", f"expected a whole video, found one that cannot be read: {error}") from error
    if time_base is None or time_base <= 0:
        raise VideoError("unsupported", f"expected a time base for the video stream, found {time_base}")
    return Probe(path, index, audio, time_base, ticks, last_ticks, keys, look, facts)


def open_video(path: Path) -> InputContainer:
    """Open a file as one of the formats that may be used.

    Raises:
        VideoError: where it is none of them.
    """
    try:
        return av.open(str(path), options=_OPTIONS, metadata_errors="replace")
    except av.error.MemoryError:
        raise
    except av.error.FFmpegError as error:
        with path.open("rb") as file:
            head = file.read(64)
        if any(head[offset : offset + len(magic)] == magic for offset, magic in _MAGIC):
            raise VideoError("damaged", f"it begins like a video, but cannot be opened: {error.strerror}") from error
        raise VideoError(
            "not_a_video", f"expected one of the formats {FORMATS}, found none of them: {error.strerror}"
        ) from error


def _video_stream(container: InputContainer) -> VideoStream:
    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not streams:
        kinds = ", ".join(stream.type for stream in container.streams) or "none"
        raise VideoError("no_video_stream", f"expected a video stream, found these streams: {kinds}")
    context = streams[0].codec_context
    if context is None:
        raise VideoError("unsupported", "expected a video codec that libav knows, found another")
    if context.width * context.height > MAX_PIXELS:
        raise VideoError(
            "unsupported", f"expected at most {MAX_PIXELS} pixels a frame, found {context.width}x{context.height}"
        )
    return streams[0]


def _audio_index(container: InputContainer) -> int | None:
    if not container.streams.audio:
        return None
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise VideoError("unsupported", "expected an audio codec that libav knows, found another")
    return stream.index


def _look(stream: VideoStream) -> Look:
    context = stream.codec_context
    return Look(
        context.name,
        context.pix_fmt or "",
        context.width,
        context.height,
        (stream.sample_aspect_ratio or 1) == 1,
    )


def _packet_ticks(container: InputContainer, stream: VideoStream) -> tuple[tuple[int, ...], int, frozenset[int]]:
    if container.format.name == AVI:
        return (), 0, frozenset()
    shown: dict[int | None, int] = {}
    keys: set[int] = set()
    count = 0
    for packet in container.demux(stream):
        if packet.size and not packet.is_discard:
            pts = packet.pts
            shown[pts] = packet.duration or 0
            count += 1
            if pts is not None and packet.is_keyframe:
                keys.add(pts)
    if None in shown or len(shown) < count:
        return (), 0, frozenset()  # only decoding tells
    ticks = tuple(sorted(tick for tick in shown if tick is not None))
    return ticks, max(shown[ticks[-1]], 0) if ticks else 0, frozenset(keys)


def decode_ticks(video: Probe, deadline: float) -> tuple[int, ...]:
    """Decode a video and say when each frame is shown.

    Args:
        deadline: by ``time.monotonic``.

    Raises:
        VideoError: where it cannot be decoded, or not in time.
    """
    shown: list[tuple[int | None, int | None]] = []
    is_avi = video.facts["format"]["format_name"] == AVI
    try:
        with open_video(video.path) as container:
            stream = container.streams[video.video]
            assert isinstance(stream, VideoStream)  # noqa: S101 - its index came from such a stream
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                shown.append((None if is_avi else frame.pts, frame.dts))
                if time.monotonic() > deadline:
                    raise VideoError("time_out", f"expected all frames in time, found {len(shown)} of them")
    except av.error.MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise VideoError("damaged", f"frame {len(shown)} cannot be decoded: {error.strerror}") from error
    return best_ticks(shown)


def best_ticks(shown: Sequence[tuple[int | None, int | None]]) -> tuple[int, ...]:
    """Say when frames are shown, from each one's time of presentation and of decoding, as ffmpeg would.

    AVI knows when packets are decoded, and no more; what decoders give as times of presentation goes up and down
    there. The last frames come without a time, for no packet came with them: they go on at the same pace.
    """
    presented = [pts for pts, _ in shown if pts is not None]
    if len(presented) == len(shown) and all(before < after for before, after in pairwise(presented)):
        return tuple(presented)
    ticks: list[int] = []
    for _, dts in shown:
        pace = ticks[-1] - ticks[-2] if len(ticks) > 1 else 1
        ticks.append(dts if dts is not None else ticks[-1] + pace if ticks else 0)
    return tuple(ticks)
