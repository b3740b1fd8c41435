"""Decode, resample and encode sound in this process; what is odd about it is left to ffmpeg (see `transcode`)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.container import InputContainer, OutputContainer
from av.filter import Graph
from av.filter.context import FilterContext

from shardmill.adapters.video import transcode
from shardmill.adapters.video.complaints import Complaints, complaints
from shardmill.adapters.video.cpu_flags import cpu_flags
from shardmill.adapters.video.error import SoundDiffersError
from shardmill.adapters.video.probe import Probe, open_video
from shardmill.adapters.video.sound import AAC_FRAME, Sound
from shardmill.adapters.video.transcode import sound_filters, sound_options, sound_rate

if TYPE_CHECKING:
    from shardmill.specs.recipes import SplitRecipe

_AT_ONCE = 16
"""Decoded frames that are filtered together, and packets that are encoded together: each step costs a little."""


@contextmanager
def encoded_sound(video: Probe, start: Fraction, end: Fraction, recipe: SplitRecipe) -> Iterator[Sound | None]:
    """Give the sound from ``start`` to ``end``, in seconds, as AAC; None where no sample came.

    Raises:
        SoundDiffersError: now or while it is taken, where it is not for this process to encode.
    """
    with complaints() as heard, open_video(video.path) as source, av.open(io.BytesIO(), "w", format="nut") as sink:
        stream = source.streams[video.audio or 0]
        assert isinstance(stream, AudioStream)  # noqa: S101 - its index came from such a stream
        with _careful():
            filtered = _filtered(stream, _frames(source, stream, heard), sound_filters(video, start, end, recipe))
            first = next(filtered, None)
            encoder = None if first is None else _encoder(sink, first, recipe)
            if encoder is not None:
                sink.start_encoding()
        if first is None or encoder is None:
            yield None
        else:
            yield Sound(encoder, _packets(encoder, chain([first], filtered), sound_rate(video, recipe)))


@contextmanager
def _careful() -> Iterator[None]:
    """Hold what is done with sound to the same instructions on every CPU; what fails is ffmpeg's to judge."""
    try:
        with cpu_flags(transcode.SOUND_CPU_FLAGS):
            yield
    except av.error.MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise SoundDiffersError(f"expected sound that can be encoded here: {error}") from error


def _frames(source: InputContainer, stream: AudioStream, heard: Complaints) -> Iterator[AudioFrame]:
    stream.codec_context.thread_count = 1
    same: tuple[object, ...] = ()
    for frame in source.decode(stream):
        look = (frame.sample_rate, frame.format.name, frame.layout.name)
        if look != same and same:
            raise SoundDiffersError("expected sound of one kind, found that it changes")
        same = look
        if heard or frame.pts is None or frame.is_corrupt:
            raise SoundDiffersError("expected sound without complaint, the decoder complained")
        yield frame
    if heard:
        raise SoundDiffersError("expected sound without complaint, the decoder complained")


def _filtered(
    stream: AudioStream, frames: Iterator[AudioFrame], filters: list[tuple[str, dict[str, str]]]
) -> Iterator[AudioFrame]:
    first = next(frames, None)
    if first is None:
        return
    graph = Graph()
    graph.threads = 1
    entry = {
        "sample_rate": str(first.sample_rate),
        "sample_fmt": first.format.name,
        "channel_layout": first.layout.name,
        "time_base": str(stream.time_base),
    }
    together = [("aformat", {"sample_fmts": "fltp"}), ("asetnsamples", {"n": str(_AT_ONCE * AAC_FRAME), "p": "0"})]
    nodes: list[FilterContext] = [graph.add("abuffer", None, **entry)]
    nodes += [graph.add(name, None, **options) for name, options in (*filters, *together)]
    nodes.append(graph.add("abuffersink"))
    graph.link_nodes(*nodes)
    graph.configure(auto_buffer=False)
    try:
        for number, frame in enumerate(chain([first], frames), 1):
            nodes[0].push(frame)
            if number % _AT_ONCE == 0:
                yield from _pulled(nodes[-1])
        nodes[0].push(None)
    except av.error.EOFError:  # nothing more is wanted
        pass
    yield from _pulled(nodes[-1])


def _pulled(exit_: FilterContext) -> Iterator[AudioFrame]:
    while True:
        try:
            frame = exit_.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(frame, AudioFrame)  # noqa: S101 - nothing else was put in
        yield frame


def _encoder(sink: OutputContainer, frame: AudioFrame, recipe: SplitRecipe) -> AudioStream:
    encoder = sink.add_stream("aac", rate=frame.sample_rate, options=sound_options(frame.sample_rate))
    context = encoder.codec_context
    context.layout, context.format = frame.layout, frame.format
    context.bit_rate = recipe.audio_kbps * 1000
    context.time_base = Fraction(1, frame.sample_rate)
    context.flags |= Flags.bitexact
    return encoder


def _packets(encoder: AudioStream, frames: Iterator[AudioFrame], rate: int) -> Iterator[tuple[int, bytes]]:
    frame: AudioFrame | None
    known = False
    while True:
        with _careful():
            frame = next(frames, None)
            packets = encoder.encode(frame)
        if packets and not known:  # a packet makes a new fraction of it whenever it is asked
            known = packets[0].time_base == Fraction(1, rate)
        for packet in packets:
            if packet.pts is None or not known:
                raise SoundDiffersError("expected packets that count samples, found others")
            yield packet.pts, bytes(packet)
        if frame is None:
            return
