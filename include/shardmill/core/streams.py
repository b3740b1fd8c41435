"""Streams: which columns of a frame a recurrent model reads, and by how many units."""

from __future__ import annotations

from dataclasses import dataclass

from shardmill.core.frames import FRAME_VALUES, RGB_VALUES
from shardmill.specs.training import TrainSpec


@dataclass(frozen=True)
class Stream:
    """A bidirectional LSTM over some columns of the frames."""

    name: str
    first: int
    """Its first column."""
    stop: int
    """The column behind its last."""
    units: int
    """Units in each direction."""

    @property
    def columns(self) -> slice:
        """The columns as a slice."""
        return slice(self.first, self.stop)

    @property
    def width(self) -> int:
        """How many columns it reads."""
        return self.stop - self.first


def streams_of(spec: TrainSpec) -> tuple[Stream, ...]:
    """Give the streams of the model that a spec asks for, in the model's order; none where it is not recurrent."""
    rgb = Stream("rgb", 0, RGB_VALUES, spec.rgb_units)
    audio = Stream("audio", RGB_VALUES, FRAME_VALUES, spec.audio_units)
    return {"two_stream_bilstm": (rgb, audio), "rgb_bilstm": (rgb,)}.get(spec.model, ())
