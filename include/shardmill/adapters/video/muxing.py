"""Write one clip as a whole MP4 file: its packets as they are, its sound as AAC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.stream import VideoStream

from shardmill.adapters.video.cpu import pinned
from shardmill.adapters.video.error import VideoError
from shardmill.core.grid import ClipPlan, decode_times

# The first frame is shown at 0 by an edit list. Signed offsets (negative_cts_offsets) would do without, but libav reads
# them wrong where they are largest at the end of a variable rate: decoded behind its time, such a clip is not remuxed.
_CONTAINER = {"fflags": "+bitexact", "movflags": "+faststart"}
_FULL_SCALE = np.float32(32768)


class ClipWriteError(RuntimeError):
    """A clip cannot be written; the video is not to blame."""


@dataclass(frozen=True)
class WrittenClip:
    """A clip on disk."""

    plan: ClipPlan
    path: Path
    sample_rate: int = 0
    """Of its sound; 0 where it has none."""
    samples: int = 0
    """Length of its sound in samples."""


@dataclass(frozen=True)
class Sound:
    """What the samples of a video are."""

    rate: int
    channels: int
    """1 or 2."""
    kbps: int
    """Bit rate of the AAC that becomes of them."""

    @property
    def layout(self) -> str:
        # NUT knows the number of channels only; ffmpeg was asked for one of these two.
        return "stereo" if self.channels == 2 else "mono"


@dataclass(frozen=True)
class ClipContent:
    """A clip before it is written."""

    plan: ClipPlan
    packets: Sequence[tuple[int, Packet]]
    """Time of each frame, in ticks from the clip's start, and its packet; in the order of decoding."""
    pcm: bytes
    """Signed 16-bit samples of its sound, interleaved; empty where it has none."""


def write_clip(
    content: ClipContent, path: Path, *, picture: VideoStream, time_base: Fraction, sound: Sound | None
) -> WrittenClip:
    """Write a clip.

    Args:
        picture: the stream that the packets came from.
        time_base: seconds of one tick of the plan.

    Raises:
        ClipWriteError: where it cannot be written.
    """
    try:
        with av.open(str(path), "w", format="mp4", options=_CONTAINER) as container:
            track = container.add_stream_from_template(picture)
            track.time_base = time_base
            voice = _add_sound(container, sound) if content.pcm and sound else None
            with pinned():  # the encoder of sound chooses its instructions as it is opened
                container.start_encoding()
            for packet in _timed(content):
                packet.stream, packet.time_base = track, time_base
                container.mux(packet)
            if voice is None or sound is None:
                return WrittenClip(content.plan, path)
            frame = _frame(content.pcm, sound)
            for packet in (*voice.encode(frame), *voice.encode(None)):
                container.mux(packet)
        return WrittenClip(content.plan, path, frame.sample_rate, frame.samples)
    except av.error.MemoryError:
        raise
    except (av.error.ArgumentError, av.error.OverflowError) as error:
        raise VideoError("unsupported", f"MP4 cannot hold clip {content.plan.number}: {error.strerror}") from error
    except av.error.FFmpegError as error:
        raise ClipWriteError(f"the clip {path} cannot be written: {error}") from error


def _timed(content: ClipContent) -> Iterator[Packet]:
    plan = content.plan
    lasting = {time: until - time for time, until in pairwise((*plan.times, plan.length))}
    shown = [time for time, _ in content.packets]
    lasting[shown[-1]] = lasting[plan.times[-1]]  # decoded last, it ends the track
    for (time, packet), decoded in zip(content.packets, decode_times(shown), strict=True):
        packet.pts, packet.dts, packet.duration = time, decoded, lasting[time]
        yield packet


def _add_sound(container: av.container.OutputContainer, sound: Sound) -> AudioStream:
    # At 64 kbit/s `fast` took a quarter of the time of `twoloop` and was 12 dB nearer to the source (ffmpeg 9).
    voice = container.add_stream("aac", rate=sound.rate, layout=sound.layout, options={"aac_coder": "fast"})
    voice.codec_context.bit_rate = sound.kbps * 1000
    voice.codec_context.flags |= av.codec.context.Flags.bitexact
    return voice


def _frame(pcm: bytes, sound: Sound) -> av.AudioFrame:
    # As the encoder wants it: no resampler chooses instructions of its own.
    samples = np.frombuffer(pcm, "<i2").reshape(-1, sound.channels).T.astype(np.float32) / _FULL_SCALE
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", sound.layout)
    frame.sample_rate, frame.time_base, frame.pts = sound.rate, Fraction(1, sound.rate), 0
    return frame
