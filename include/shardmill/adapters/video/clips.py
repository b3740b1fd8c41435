"""Share the packets of a stream out to clips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.stream import VideoStream

from shardmill.adapters.video.error import FramesDifferError
from shardmill.adapters.video.muxing import ClipContent, WrittenClip, write_clip
from shardmill.adapters.video.sound import ClipSound
from shardmill.core.grid import ClipPlan


class SoundTrack(Protocol):
    """The sound of a video, taken in order."""

    stream: AudioStream

    def take(self, first: Fraction, last: Fraction) -> ClipSound:
        """Give the sound from one time of the source to another, in seconds."""


@dataclass(frozen=True)
class Cut:
    """How a stream is to be cut."""

    plans: Sequence[ClipPlan]
    time_base: Fraction
    """Seconds of one tick of the plans."""
    folder: Path
    """Where the clips are written."""


def write_clips(
    picture: VideoStream, packets: Iterable[Packet], track: SoundTrack | None, cut: Cut
) -> Iterator[WrittenClip]:
    """Yield the clips of a stream as they become whole.

    Args:
        picture: the stream.
        packets: all of its packets, in the order of decoding.
        track: the sound; None where there is none.

    Raises:
        FramesDifferError: where the stream's frames are not those of the plans.
    """
    for plan, content in _share(packets, cut):
        start, end = (tick * cut.time_base for tick in (plan.start, plan.start + plan.length))
        yield write_clip(
            ClipContent(plan, content, track.take(start, end) if track else ClipSound()),
            cut.folder / f"{plan.number:06d}.mp4",
            picture=picture,
            time_base=cut.time_base,
            voice=track.stream if track else None,
        )


def _share(packets: Iterable[Packet], cut: Cut) -> Iterator[tuple[ClipPlan, list[tuple[int, Packet]]]]:
    # A clip's packets come together, for a key frame begins it and no frame refers across that.
    coming = iter(packets)
    clock: _Clock | None = None
    for plan in cut.plans:
        missing = set(plan.times)
        found: list[tuple[int, Packet]] = []
        while missing:
            packet = next(coming, None)
            if packet is None:
                raise FramesDifferError("expected more frames than were decoded")
            pts = packet.pts
            if pts is None or (clock is None and packet.time_base is None):
                raise FramesDifferError("expected a time on each packet, found one without")
            if clock is None:  # a packet makes a new fraction of its time base whenever it is asked
                clock = _Clock(pts, Fraction(packet.time_base or 1) / cut.time_base, plan.start)
            if not found and not packet.is_keyframe:
                raise FramesDifferError(f"expected a key frame at the start of clip {plan.number}, found none")
            time = clock.ticks(pts) - plan.start
            if time not in missing:
                seconds = float(time * cut.time_base)
                raise FramesDifferError(f"clip {plan.number}: expected no frame at {seconds:.6f} s, found one")
            missing.remove(time)
            found.append((time, packet))
        if found[0][0]:
            raise FramesDifferError(f"clip {plan.number}: expected its first frame to be decoded first, it was not")
        yield plan, found
    if next(coming, None) is not None:
        raise FramesDifferError("expected fewer frames than were decoded")


class _Clock:
    """Tells the source's time from the stream's, which may begin elsewhere and count in other ticks."""

    def __init__(self, origin: int, ratio: Fraction, start: int) -> None:
        """Set the clock.

        Args:
            origin: the first frame's time in the stream.
            ratio: ticks of the source in a tick of the stream.
            start: the first frame's time in the source.
        """
        self._origin, self._start = origin, start
        self._above, self._below = ratio.numerator, ratio.denominator

    def ticks(self, pts: int) -> int:
        ticks, rest = divmod((pts - self._origin) * self._above, self._below)
        if rest:
            raise FramesDifferError("expected frames at whole ticks of the source, found one between them")
        return self._start + ticks
