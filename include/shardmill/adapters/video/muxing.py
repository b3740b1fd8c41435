"""Write one clip as a whole MP4 file: packets as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.stream import VideoStream

from shardmill.adapters.video.error import VideoError
from shardmill.adapters.video.sound import ClipSound
from shardmill.core.grid import ClipPlan, decode_times

# The first frame is shown at 0 by an edit list. Signed offsets (negative_cts_offsets) would do without, but libav reads
# them wrong where they are largest at the end of a variable rate: decoded behind its time, such a clip is not remuxed.
_CONTAINER = {"fflags": "+bitexact", "movflags": "+faststart"}


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
class ClipContent:
    """A clip before it is written."""

    plan: ClipPlan
    packets: Sequence[tuple[int, Packet]]
    """Time of each frame, in ticks from the clip's start, and its packet; in the order of decoding."""
    sound: ClipSound


def write_clip(
    content: ClipContent, path: Path, *, picture: VideoStream, time_base: Fraction, voice: AudioStream | None
) -> WrittenClip:
    """Write a clip.

    Args:
        picture: the stream that the packets came from.
        time_base: seconds of one tick of the plan.
        voice: the stream that the sound came from.

    Raises:
        ClipWriteError: where it cannot be written.
    """
    try:
        with av.open(str(path), "w", format="mp4", options=_CONTAINER) as container:
            track = container.add_stream_from_template(picture)
            track.time_base = time_base
            heard = container.add_stream_from_template(voice) if content.sound.packets and voice else None
            for packet in _timed(content):
                packet.stream, packet.time_base = track, time_base
                container.mux(packet)
            if heard is None or voice is None:
                return WrittenClip(content.plan, path)
            rate = voice.codec_context.sample_rate
            base = Fraction(1, rate)
            for packet in _sounding(content.sound):
                packet.stream, packet.time_base = heard, base
                container.mux(packet)
        return WrittenClip(content.plan, path, rate, content.sound.samples)
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


def _sounding(sound: ClipSound) -> Iterator[Packet]:
    """Give the packets of a clip's sound; what lies before time 0 goes into an edit list."""
    for one in sound.packets:
        packet = Packet(one.content)
        packet.pts = packet.dts = one.time
        packet.duration, packet.is_keyframe = one.length, True
        yield packet
