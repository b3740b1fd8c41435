"""Take a source's own packets for clips, where it is as clips are to be."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import av
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import Type
from av.video.stream import VideoStream

from shardmill.adapters.video.complaints import Complaints, complaints
from shardmill.adapters.video.error import FramesDifferError
from shardmill.adapters.video.nal import parameter_sets
from shardmill.adapters.video.probe import Probe, open_video
from shardmill.adapters.video.proof import Pictures, picture_checksum
from shardmill.core.grid import ClipPlan

if TYPE_CHECKING:
    from shardmill.specs.recipes import SplitRecipe


_MATROSKA, _CLUSTER, _TRACKS = b"\x1a\x45\xdf\xa3", b"\x1f\x43\xb6\x75", b"\x16\x54\xae\x6b"
_CROPPING = (b"\x54\xaa", b"\x54\xbb", b"\x54\xcc", b"\x54\xdd")


def may_be_copied(video: Probe, plans: Sequence[ClipPlan], recipe: SplitRecipe) -> bool:
    """Say whether a source looks as if its packets were clips' packets: only decoding tells for sure."""
    look = video.look
    return (
        look.codec == "h264"
        and look.pix_fmt == "yuv420p"
        and (look.width, look.height) == (recipe.width, recipe.height)
        and look.has_square_pixels
        and all(plan.start in video.keys for plan in plans)
        and not may_be_cropped(video.path)
    )


def may_be_cropped(path: Path) -> bool:
    """Say whether a container may ask for a part of the picture only: MP4 by its box, Matroska by its elements."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[:4] != _MATROSKA:
            return content.find(b"clap") >= 0
        end = content.find(_CLUSTER)
        head = content[: max(end, 0)]
    return _TRACKS not in head or any(element in head for element in _CROPPING)


@contextmanager
def source_packets(video: Probe) -> Iterator[tuple[VideoStream, Iterator[Packet]]]:
    """Open a source and give its video stream and that stream's packets.

    Raises:
        FramesDifferError: while packets are taken, where the stream changes its parameters or cannot be read.
    """
    with open_video(video.path) as container:
        stream = _stream(container, video)
        yield stream, _packets(container, stream)


def _stream(container: InputContainer, video: Probe) -> VideoStream:
    stream = container.streams[video.video]
    assert isinstance(stream, VideoStream)  # noqa: S101 - its index came from such a stream
    return stream


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    header = stream.codec_context.extradata or b""
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            if packet.is_discard or packet.is_corrupt or packet.has_sidedata("new_extradata"):
                raise FramesDifferError(
                    "expected every packet to be shown, found one that is not, or changes the decoder"
                )
            if any(found not in header for found in parameter_sets(bytes(packet), header)):
                raise FramesDifferError("expected one set of parameters, found that it changes")
            yield packet
    except av.error.FFmpegError as error:
        raise FramesDifferError(f"expected packets that can be read: {error}") from error


@contextmanager
def source_pictures(video: Probe) -> Iterator[Pictures]:
    """Decode a source from its beginning to its end.

    Raises:
        FramesDifferError: while pictures are taken, where the decoder complains or a frame must be changed.
    """
    with complaints() as heard, open_video(video.path) as container:
        yield _pictures(container, _stream(container, video), heard)


def _pictures(container: InputContainer, stream: VideoStream, heard: Complaints) -> Pictures:
    context = stream.codec_context
    context.thread_count = 1
    context.options = {"err_detect": "explode"}
    size = (context.width, context.height, "yuv420p")
    try:
        for frame in container.decode(stream):
            if frame.interlaced_frame or frame.is_corrupt or frame.pts is None or Type.DISPLAYMATRIX in frame.side_data:
                raise FramesDifferError("expected frames that need no change, found one that does")
            if (frame.width, frame.height, frame.format.name) != size:
                raise FramesDifferError("expected frames of one size, found another")
            if heard:
                raise FramesDifferError("expected a decoder without complaint, it complained")
            yield frame.pts, picture_checksum(frame)
    except av.error.FFmpegError as error:
        raise FramesDifferError(f"expected frames that can be decoded: {error}") from error
