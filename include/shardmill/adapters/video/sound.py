"""The sound of a video, read from a pipe as far as clips need it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

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


class PipedSound:
    """AAC that is read when it is asked for: what lies ahead stays in the pipe, and its writer waits."""

    def __init__(self, container: InputContainer, zero: int) -> None:
        """Begin to read.

        Args:
            container: of one stream of AAC.
            zero: time of the source's time 0 in the stream, in seconds.
        """
        self.stream: AudioStream = container.streams.audio[0]
        self.rate: int = self.stream.codec_context.sample_rate
        self._coming = container.demux(audio=0)
        base = self.stream.time_base or Fraction(1, self.rate)
        self._samples, self._ticks = base.numerator * self.rate, base.denominator  # so many samples in so many ticks
        self._zero = zero
        self._held: deque[tuple[int, bytes]] = deque()  # number of the first sample, and the packet
        self._end: int | None = None

    def take(self, first: Fraction, last: Fraction) -> ClipSound:
        """Give the sound from one time of the source to another, in seconds, and forget what is before that.

        A packet decodes right only behind the one before it; so one more comes before the first that sounds.
        """
        begin, end = (int((time + self._zero) * self.rate + Fraction(1, 2)) for time in (first, last))
        while self._held and self._held[0][0] <= begin - 2 * AAC_FRAME:
            self._held.popleft()
        while self._end is None or self._end < end:
            packet = next(self._coming, None)
            if packet is None:
                break
            if packet.size and packet.pts is not None:
                number = packet.pts * self._samples // self._ticks
                self._end = number + AAC_FRAME
                if number > begin - 2 * AAC_FRAME:
                    self._held.append((number, bytes(packet)))
        if self._end is None or self._end <= begin:
            return ClipSound()
        packets = [
            SoundPacket(number - begin, min(AAC_FRAME, end - number), content)
            for number, content in self._held
            if number < end
        ]
        return ClipSound(tuple(packets), min(self._end, end) - begin)


@contextmanager
def piped_sound(stream: int, zero: int) -> Iterator[PipedSound | None]:
    """Read a NUT stream from a file descriptor; None where no sample came: then ffmpeg writes no whole header."""
    try:
        container = av.open(f"pipe:{stream}", format="nut")
    except (av.error.InvalidDataError, av.error.EOFError):
        yield None  # where there should have been sound, ffmpeg has complained
        return
    with container:
        yield PipedSound(container, zero)
