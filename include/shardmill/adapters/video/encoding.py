"""Decode, scale and encode plain pictures in this process: nothing is handed from thread to thread, or through a pipe.

What is not plain, or not in order, is not judged here: ffmpeg decides (see `transcode`), and says what is wrong.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING

import av
from av.codec.context import Flags
from av.container import InputContainer, OutputContainer
from av.filter import Graph
from av.filter.context import FilterContext
from av.packet import Packet
from av.sidedata.sidedata import Type
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from shardmill.adapters.video import transcode
from shardmill.adapters.video.complaints import Complaints, complaints
from shardmill.adapters.video.copying import may_be_cropped
from shardmill.adapters.video.cpu_flags import cpu_flags
from shardmill.adapters.video.error import FramesDifferError, VideoError
from shardmill.adapters.video.probe import Probe, open_video
from shardmill.adapters.video.transcode import decoding, picture_filters, x264_params

if TYPE_CHECKING:
    from shardmill.specs.recipes import SplitRecipe

PLAIN_FORMAT = "yuv420p"
_MOST_PIXELS = 4096 * 2304
_FULL_RANGE = 2


def is_plain(video: Probe) -> bool:
    """Say whether a source looks as if its pictures could be encoded here: its frames are looked at when they come."""
    look = video.look
    return (
        bool(video.ticks)
        and look.pix_fmt == PLAIN_FORMAT
        and look.has_square_pixels
        and look.width * look.height <= _MOST_PIXELS
        and not may_be_cropped(video.path)
    )


@dataclass(frozen=True)
class Wanted:
    """What is to become of the pictures."""

    recipe: SplitRecipe
    starts: Set[int]
    """When the frames are shown that must be key frames, in ticks of the source."""
    deadline: float
    """By ``time.monotonic``."""


@contextmanager
def encoded_pictures(video: Probe, wanted: Wanted) -> Iterator[tuple[VideoStream, Iterator[Packet]]]:
    """Give a stream of H.264 and its packets, in the order of decoding.

    Raises:
        FramesDifferError: now or while packets are taken, where this is not for a source to be encoded here.
        VideoError: while packets are taken, where time has run out.
    """
    with (
        cpu_flags(transcode.PICTURE_CPU_FLAGS),
        complaints() as heard,
        open_video(video.path) as source,
        av.open(io.BytesIO(), "w", format="nut") as sink,
    ):
        stream = source.streams[video.video]
        assert isinstance(stream, VideoStream)  # noqa: S101 - its index came from such a stream
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"err_detect": "explode", **decoding(video, wanted.recipe)}
        with _careful():
            frames = _frames(source, stream, heard, wanted.deadline)
            first = next(frames, None)
            if first is None:
                raise FramesDifferError("expected a frame, found none")
            scale = _scaling(stream, first, wanted.recipe)
            scaled = scale(first)
            encoder = _encoder(sink, scaled, stream, wanted.recipe)
            sink.start_encoding()
        yield encoder, _packets(encoder, chain([scaled], map(scale, frames)), wanted.starts)


@contextmanager
def _careful() -> Iterator[None]:
    """What fails is ffmpeg's to judge."""
    try:
        yield
    except av.error.MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise FramesDifferError(f"expected pictures that can be encoded here: {error}") from error


def _frames(source: InputContainer, stream: VideoStream, heard: Complaints, deadline: float) -> Iterator[VideoFrame]:
    same: tuple[object, ...] = ()
    for frame in source.decode(stream):
        if frame.interlaced_frame or frame.is_corrupt or frame.pts is None or _is_turned(frame):
            raise FramesDifferError("expected plain frames, found one that is not")
        if (look := _look(frame)) != same:
            if same or frame.format.name != PLAIN_FORMAT or frame.color_range == _FULL_RANGE:
                raise FramesDifferError("expected frames of one plain kind, found another")
            same = look
        if heard:
            raise FramesDifferError("expected a decoder without complaint, it complained")
        if time.monotonic() > deadline:
            raise VideoError("time_out", "expected the video to be encoded within its time, it was not")
        yield frame
    if heard:
        raise FramesDifferError("expected a decoder without complaint, it complained")


def _is_turned(frame: VideoFrame) -> bool:
    beside = frame.side_data
    return bool(beside) and Type.DISPLAYMATRIX in beside


def _look(frame: VideoFrame) -> tuple[object, ...]:
    colours = (frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc)
    return (frame.width, frame.height, frame.format.name, *colours)


def _scaling(stream: VideoStream, frame: VideoFrame, recipe: SplitRecipe) -> Callable[[VideoFrame], VideoFrame]:
    """Make the filters that bring frames like this one to the size of clips."""
    graph = Graph()
    graph.threads = 1
    entry = {
        "video_size": f"{frame.width}x{frame.height}",
        "pix_fmt": frame.format.name,
        "time_base": str(stream.time_base),
        "pixel_aspect": "1/1",
        "colorspace": str(frame.colorspace),
        "range": str(frame.color_range),
    }
    nodes: list[FilterContext] = [graph.add("buffer", None, **entry)]
    nodes += [graph.add(name, None, **options) for name, options in picture_filters(recipe.width, recipe.height)]
    nodes.append(graph.add("buffersink"))
    graph.link_nodes(*nodes)
    graph.configure(auto_buffer=False)

    def scale(frame: VideoFrame) -> VideoFrame:
        nodes[0].push(frame)
        scaled = nodes[-1].pull()
        assert graph.configured and isinstance(scaled, VideoFrame)  # noqa: S101 - one comes for each
        return scaled

    return scale


def _encoder(sink: OutputContainer, scaled: VideoFrame, stream: VideoStream, recipe: SplitRecipe) -> VideoStream:
    options = {"preset": recipe.preset, "crf": str(recipe.crf), "forced-idr": "1", "x264-params": x264_params(recipe)}
    encoder = sink.add_stream("libx264", rate=stream.guessed_rate, options=options)
    assert scaled.time_base is not None  # noqa: S101 - it is the stream's
    encoder.time_base = scaled.time_base
    context = encoder.codec_context
    context.time_base = encoder.time_base
    context.width, context.height, context.pix_fmt = scaled.width, scaled.height, scaled.format.name
    context.sample_aspect_ratio = Fraction(1)
    context.thread_count = 1
    context.flags |= Flags.bitexact
    context.color_range, context.colorspace = scaled.color_range, scaled.colorspace
    context.color_primaries, context.color_trc = scaled.color_primaries, scaled.color_trc
    return encoder


def _packets(encoder: VideoStream, frames: Iterator[VideoFrame], starts: Set[int]) -> Iterator[Packet]:
    with _careful():
        for frame in frames:
            frame.pict_type = PictureType.I if frame.pts in starts else PictureType.NONE
            yield from encoder.encode(frame)
        yield from encoder.encode(None)
