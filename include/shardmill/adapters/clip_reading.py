"""Read clips back by libav: the picture of each second, and the sound."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import av
import numpy as np
from av.filter import Graph
from av.video.reformatter import VideoReformatter

from shardmill.core.footage import Footage
from shardmill.core.logmel import SAMPLE_RATE

_CLOCK_SLACK = 1e-3
"""Seconds: a frame's time is rounded to the container's clock."""


class ClipError(ValueError):
    """A clip cannot be decoded; names the clip."""


class ClipTaking:
    """Takes what footage needs from the frames of a clip, as they are decoded."""

    def __init__(self, wanted: Sequence[float], colours: VideoReformatter) -> None:
        """Begin; ``wanted`` are the seconds of which a frame is taken, counted from the clip's start."""
        self._wanted = list(wanted)
        self._frames: dict[float, np.ndarray] = {}
        self._heard: list[av.AudioFrame] = []
        self._end = 0.0
        self._tick = 0.0
        self._colours = colours

    def take(self, frame: av.VideoFrame | av.AudioFrame) -> None:
        """Look at a frame or at samples; all of a clip come in order."""
        if isinstance(frame, av.VideoFrame):
            self._take_picture(frame)
        else:
            self._heard.append(frame)

    def _take_picture(self, frame: av.VideoFrame) -> None:
        if not self._tick:  # of this clip's stream; it takes a while to ask for
            self._tick = float(frame.time_base or 0)
        time = (frame.pts or 0) * self._tick
        self._end = max(self._end, time + (frame.duration or 0) * self._tick)
        for second in self._wanted:
            if second - _CLOCK_SLACK <= time < second + 1 - _CLOCK_SLACK:
                # By itself it would start a thread a core, and wait for them.
                self._frames[second] = self._colours.reformat(frame, format="rgb24", threads=1).to_ndarray()
                self._wanted.remove(second)
                break

    def finish(self) -> tuple[list[np.ndarray], list[np.ndarray], float]:
        """Give the frames, the sound of their seconds, and the clip's length in seconds."""
        start, sound = self._heard[0].time or 0.0 if self._heard else 0.0, _resampled(self._heard)
        seconds = sorted(self._frames)
        if not self._heard:
            return [self._frames[second] for second in seconds], [sound] * len(seconds), self._end
        return [self._frames[second] for second in seconds], [self._of(at, sound, start) for at in seconds], self._end

    def _of(self, second: float, sound: np.ndarray, start: float) -> np.ndarray:
        """Cut out the samples from a second to the next, or to the clip's end."""
        stop = min(second + 1, max(self._end, second))
        first, last = (round((moment - start) * SAMPLE_RATE) for moment in (second, stop))
        heard = sound[max(first, 0) : max(last, 0)]
        return np.pad(heard, (max(0, -first), 0))[: last - first].astype(np.float32)


def _resampled(heard: Sequence[av.AudioFrame]) -> np.ndarray:
    """Give a clip's sound as 16 kHz mono, at one go: frame by frame it takes five times as long."""
    if not heard:
        return np.zeros(0, np.float32)
    first = heard[0]
    whole = av.AudioFrame.from_ndarray(_samples(heard), first.format.name, first.layout.name)
    whole.sample_rate, whole.time_base, whole.pts = first.sample_rate, first.time_base, first.pts
    return np.concatenate([part.to_ndarray()[0] for part in _as_features_hear(whole)])


def _as_features_hear(whole: av.AudioFrame) -> Iterator[av.AudioFrame]:
    """Resample by a graph of one thread; `av.AudioResampler` starts and ends one a core for each clip."""
    graph = Graph()
    graph.threads = 1
    entry = {
        "sample_rate": str(whole.sample_rate),
        "sample_fmt": whole.format.name,
        "channel_layout": whole.layout.name,
        "time_base": str(whole.time_base),
    }
    wanted = {"sample_fmts": "flt", "channel_layouts": "mono", "sample_rates": str(SAMPLE_RATE)}
    nodes = [graph.add("abuffer", None, **entry), graph.add("aformat", None, **wanted), graph.add("abuffersink")]
    graph.link_nodes(*nodes)
    graph.configure(auto_buffer=False)
    nodes[0].push(whole)
    nodes[0].push(None)
    while True:
        try:
            part = nodes[-1].pull()
        except (av.error.EOFError, av.error.BlockingIOError):
            return
        assert graph.configured and isinstance(part, av.AudioFrame)  # noqa: S101 - nothing else was put in
        yield part


def _samples(heard: Sequence[av.AudioFrame]) -> np.ndarray:
    """Put frames behind one another as `to_ndarray` gives each: that would take three times as long."""
    first = heard[0]
    if first.format.name != "fltp":
        return np.concatenate([frame.to_ndarray() for frame in heard], axis=1)
    # A frame makes its planes anew whenever it is asked for them.
    pieces = [
        [np.frombuffer(memoryview(plane), np.float32, frame.samples) for plane in frame.planes] for frame in heard
    ]
    planes = zip(*pieces, strict=True)
    return np.stack([np.concatenate(plane) for plane in planes])


class FootageTaking:
    """Puts the footage of a video together, clip by clip."""

    def __init__(self, clip_seconds: float, max_frames: int) -> None:
        """Begin; what is behind ``max_frames`` seconds is not taken."""
        self._clip_seconds, self._max_frames = clip_seconds, max_frames
        self._colours = VideoReformatter()  # one for all: a frame's own takes four times as long
        self._open: ClipTaking | None = None
        self._frames: list[np.ndarray] = []
        self._sound: list[np.ndarray] = []
        self._seconds = 0.0

    def begin(self, number: int) -> ClipTaking | None:
        """Go on with the next clip, clip k of the grid; None where enough was taken."""
        self._finish()
        if len(self._frames) < self._max_frames:
            self._open = ClipTaking(_whole_seconds(number, self._clip_seconds), self._colours)
        return self._open

    def _finish(self) -> None:
        if self._open is not None:
            frames, sound, seconds = self._open.finish()
            self._frames += frames
            self._sound += sound
            self._seconds += seconds
            self._open = None

    def footage(self) -> Footage:
        """Give the whole.

        Raises:
            ClipError: where there is none.
        """
        self._finish()
        if not self._frames:
            raise ClipError("expected frames in the video's clips, found none")
        most = self._max_frames
        return Footage(np.stack(self._frames[:most]), tuple(self._sound[:most]), self._seconds)


def _decode(content: bytes, taking: ClipTaking) -> None:
    with av.open(io.BytesIO(content), "r", format="mp4") as container:
        if not container.streams.video:
            raise ClipError("expected a video stream, found none")
        picture = container.streams.video[0]
        picture.codec_context.thread_count = 1  # the clips of several videos are read at once
        sound = container.streams.audio[0] if container.streams.audio else None
        for packet in container.demux([picture, sound] if sound else [picture]):
            for frame in packet.decode():
                if isinstance(frame, av.VideoFrame | av.AudioFrame):
                    taking.take(frame)


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
    whole = FootageTaking(clip_seconds, max_frames)
    for content, number in zip(clips, numbers, strict=True):
        taking = whole.begin(number)
        if taking is None:
            break
        try:
            _decode(content, taking)
        except (av.error.FFmpegError, ClipError) as error:
            raise ClipError(f"clip {number:06d}: {error}") from error
    return whole.footage()


def _whole_seconds(number: int, clip_seconds: float) -> list[float]:
    start = number * clip_seconds
    first = int(np.ceil(start - _CLOCK_SLACK))
    last = int(np.ceil(start + clip_seconds - _CLOCK_SLACK))
    return [max(0.0, second - start) for second in range(first, last)]


def tools() -> dict[str, str]:
    """Tell the builds that decode, for manifests."""
    version = ".".join(str(number) for number in av.library_versions["libavcodec"])
    return {"av": av.__version__, "libavcodec": version}
