"""Read clips back by libav: the picture of each second, and the sound."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import av
import numpy as np

from shardmill.core.logmel import SAMPLE_RATE

_CLOCK_SLACK = 1e-3
"""Seconds: a frame's time is rounded to the container's clock."""


class ClipError(ValueError):
    """A clip cannot be decoded; names the clip."""


@dataclass(frozen=True, eq=False)
class Footage:
    """A video, a frame a second."""

    frames: np.ndarray
    """uint8 [seconds, height, width, 3]."""
    sound: tuple[np.ndarray, ...]
    """The samples of each second, float32, 16 kHz mono; fewer than 16,000 at a clip's end, none where it is silent."""
    seconds: float
    """Length of the clips together."""


@dataclass(eq=False)
class _Clip:
    wanted: Sequence[float]
    frames: dict[float, np.ndarray] = field(default_factory=dict)
    samples: list[np.ndarray] = field(default_factory=list)
    sound_start: float = 0.0
    end: float = 0.0

    def take_picture(self, frame: av.VideoFrame) -> None:
        time = frame.time or 0.0
        length = float((frame.duration or 0) * (frame.time_base or 0))
        self.end = max(self.end, time + length)
        for second in self.wanted:
            if second not in self.frames and second - _CLOCK_SLACK <= time < second + 1 - _CLOCK_SLACK:
                self.frames[second] = frame.to_ndarray(format="rgb24")

    def take_sound(self, frames: Sequence[av.AudioFrame]) -> None:
        for frame in frames:
            if not self.samples:
                self.sound_start = frame.time or 0.0
            self.samples.append(frame.to_ndarray().reshape(-1))

    def sound_of(self, second: float) -> np.ndarray:
        """Cut out the samples from a second to the next, or to the clip's end."""
        if not self.samples:
            return np.zeros(0, np.float32)
        stop = min(second + 1, max(self.end, second))
        first, last = (round((moment - self.sound_start) * SAMPLE_RATE) for moment in (second, stop))
        heard = np.concatenate(self.samples)[max(first, 0) : max(last, 0)]
        return np.pad(heard, (max(0, -first), 0))[: last - first].astype(np.float32)


def _decode(content: bytes, wanted: Sequence[float]) -> _Clip:
    clip = _Clip(wanted)
    with av.open(io.BytesIO(content), "r", format="mp4") as container:
        if not container.streams.video:
            raise ClipError("expected a video stream, found none")
        picture = container.streams.video[0]
        picture.codec_context.thread_count = 1  # the clips of several videos are read at once
        sound = container.streams.audio[0] if container.streams.audio else None
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
        for packet in container.demux([picture, sound] if sound else [picture]):
            for frame in packet.decode():
                if isinstance(frame, av.VideoFrame):
                    clip.take_picture(frame)
                elif isinstance(frame, av.AudioFrame):
                    clip.take_sound(resampler.resample(frame))
        if clip.samples:
            clip.take_sound(resampler.resample(None))
    return clip


def read_footage(clips: Sequence[bytes], numbers: Sequence[int], *, clip_seconds: float, max_frames: int) -> Footage:
    """Decode the clips of a video, in order.

    Each whole second of the video gives the first frame at or after it, within its clip. A second without a frame
    gives nothing.

    Args:
        clips: the clips' bytes (MP4).
        numbers: their places on the grid: clip k begins at ``k * clip_seconds``.
        max_frames: at most so many seconds are read.

    Raises:
        ClipError: where a clip cannot be decoded.
    """
    frames: list[np.ndarray] = []
    sound: list[np.ndarray] = []
    seconds = 0.0
    for content, number in zip(clips, numbers, strict=True):
        wanted = _whole_seconds(number, clip_seconds)
        try:
            clip = _decode(content, wanted)
        except (av.error.FFmpegError, ClipError) as error:
            raise ClipError(f"clip {number:06d}: {error}") from error
        seconds += clip.end
        for second in sorted(clip.frames):
            frames.append(clip.frames[second])
            sound.append(clip.sound_of(second))
        if len(frames) >= max_frames:
            break
    if not frames:
        raise ClipError(f"expected frames in the video's {len(clips)} clips, found none")
    return Footage(np.stack(frames[:max_frames]), tuple(sound[:max_frames]), seconds)


def _whole_seconds(number: int, clip_seconds: float) -> list[float]:
    start = number * clip_seconds
    first = int(np.ceil(start - _CLOCK_SLACK))
    last = int(np.ceil(start + clip_seconds - _CLOCK_SLACK))
    return [max(0.0, second - start) for second in range(first, last)]


def tools() -> dict[str, str]:
    """Tell the builds that decode, for manifests."""
    version = ".".join(str(number) for number in av.library_versions["libavcodec"])
    return {"av": av.__version__, "libavcodec": version}
