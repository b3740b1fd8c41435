"""The sound of a video, read from a pipe as far as clips need it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import av
from av.container import InputContainer

from shardmill.adapters.video.muxing import Sound
from shardmill.core.pcm import PcmTrack

_SAMPLE_BYTES = 2


class PipedSound:
    """PCM that is read when it is asked for: what lies ahead stays in the pipe, and its writer waits."""

    def __init__(self, container: InputContainer, kbps: int, zero: int) -> None:
        """Begin to read.

        Args:
            container: of one stream of signed 16-bit samples.
            kbps: bit rate of the AAC that is to become of them.
            zero: time of the source's time 0 in the stream, in seconds.
        """
        context = container.streams.audio[0].codec_context
        self.sound = Sound(context.sample_rate, context.channels, kbps)
        self._packets = container.demux(audio=0)
        self._zero = zero
        self._track = PcmTrack(_SAMPLE_BYTES * context.channels)

    def take(self, first: Fraction, last: Fraction) -> bytes:
        """Give the samples from one time of the source to another, in seconds, and forget all before that."""
        begin, end = (round((time + self._zero) * self.sound.rate) for time in (first, last))
        self._track.forget(begin)
        while self._track.end < end:
            packet = next(self._packets, None)
            if packet is None:
                break
            if packet.size and packet.pts is not None and packet.time_base is not None:
                self._track.append(round(packet.pts * packet.time_base * self.sound.rate), bytes(packet))
        return self._track.take(begin, end)


@contextmanager
def piped_sound(stream: int, kbps: int, zero: int) -> Iterator[PipedSound | None]:
    """Read a NUT stream from a file descriptor; None where no sample came: then ffmpeg writes no whole header."""
    try:
        container = av.open(f"pipe:{stream}", format="nut")
    except (av.error.InvalidDataError, av.error.EOFError):
        yield None  # where there should have been sound, ffmpeg has complained
        return
    with container:
        yield PipedSound(container, kbps, zero)
