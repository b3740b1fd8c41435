"""The sound of a video, read from a pipe as far as clips need it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from math import floor

import av
from av.audio.stream import AudioStream
from av.container import InputContainer

AAC_FRAME = 1024
"""Samples of a packet."""


@dataclass(frozen=True)
class SoundPacket:
    """A packet of AAC."""

    time: int
    """Number of its first sample, counted from the clip's first."""
    length: int
    """Samples that it adds to the clip's track."""
    content: bytes


@dataclass(frozen=True)
class ClipSound:
    """The sound of one clip: whole packets, the first of which begin before the clip."""

    packets: tuple[SoundPacket, ...] = ()
    samples: int = 0
    """From the clip's first to its last."""


class Sound:
    """AAC that is read when it is asked for: what lies ahead stays where it comes from."""

    def __init__(self, stream: AudioStream, packets: Iterator[tuple[int, bytes]]) -> None:
        """Begin to read.

        Args:
            stream: of AAC.
            packets: its packets, each with the number of its first sample, counted from the source's time 0.
        """
        self.stream = stream
        self.rate: int = stream.codec_context.sample_rate
        self._coming = packets
        self._held: deque[tuple[int, bytes]] = deque()
        self._end: int | None = None

    def take(self, first: Fraction, last: Fraction) -> ClipSound:
        """Give the sound from one time of the source to another, in seconds, and forget what is before that.

        A packet decodes right only behind the one before it; so one more comes before the first that sounds.
        """
        begin, end = (floor(time * self.rate + Fraction(1, 2)) for time in (first, last))
        while self._held and self._held[0][0] <= begin - 2 * AAC_FRAME:
            self._held.popleft()
        while self._end is None or self._end < end:
            number, content = next(self._coming, (0, b""))
            if not content:
                break
            self._end = number + AAC_FRAME
            if number > begin - 2 * AAC_FRAME:
                self._held.append((number, content))
        if self._end is None or self._end <= begin:
            return ClipSound()
        packets = [
            SoundPacket(number - begin, min(AAC_FRAME, end - number), content)
            for number, content in self._held
            if number < end
        ]
        return ClipSound(tuple(packets), min(self._end, end) - begin)


@contextmanager
def piped_sound(pipe: int, zero: int) -> Iterator[Sound | None]:
    """Read a NUT stream from a file descriptor; None where no sample came: then ffmpeg writes no whole header.

    Args:
        zero: time of the source's time 0 in the stream, in seconds.
    """
    try:
        container = av.open(f"pipe:{pipe}", format="nut")
    except (av.error.InvalidDataError, av.error.EOFError):
        yield None  # where there should have been sound, ffmpeg has complained
        return
    with container:
        stream = container.streams.audio[0]
        yield Sound(stream, _numbered(container, stream, zero))


def _numbered(container: InputContainer, stream: AudioStream, zero: int) -> Iterator[tuple[int, bytes]]:
    rate = stream.codec_context.sample_rate
    base = stream.time_base or Fraction(1, rate)
    samples, ticks = base.numerator * rate, base.denominator  # so many samples in so many ticks
    for packet in container.demux(stream):
        if packet.size and packet.pts is not None:
            yield packet.pts * samples // ticks - zero * rate, bytes(packet)
