"""What a file says of itself, under the names that ffprobe's JSON uses."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

Facts = dict[str, Any]


def describe(container: InputContainer, name: str) -> Facts:
    """Describe a file: its ``format`` and its ``streams``.

    Args:
        name: what the file is called in its shard; where it lies on this machine is nobody's business.
    """
    start = None if container.start_time is None else _seconds(Fraction(container.start_time, 1_000_000))
    duration = None if container.duration is None else _seconds(Fraction(container.duration, 1_000_000))
    described = {
        "filename": name,
        "nb_streams": len(container.streams),
        "format_name": container.format.name,
        "format_long_name": container.format.long_name,
        "start_time": start,
        "duration": duration,
        "size": str(container.size),
        "bit_rate": str(container.bit_rate) if container.bit_rate else None,
        "tags": _clean(container.metadata),
    }
    return {"format": _known(described), "streams": [_stream(stream) for stream in container.streams]}


def _stream(stream: Stream) -> Facts:
    context = getattr(stream, "codec_context", None)  # None where libav does not know the codec
    described: Facts = {"index": stream.index, "codec_type": stream.type}
    if context is not None:
        described |= {
            "codec_name": context.codec.name,
            "codec_long_name": context.codec.long_name,
            "profile": stream.profile,
            "codec_tag_string": _text(context.codec_tag),
            "extradata_size": context.extradata_size or None,
            "bit_rate": str(context.bit_rate) if context.bit_rate else None,
        }
        if isinstance(stream, VideoStream):
            described |= _video(stream)
        if isinstance(stream, AudioStream):
            described |= _audio(stream)
    return _known(described | _timing(stream))


def _video(stream: VideoStream) -> Facts:
    context = stream.codec_context
    return {
        "width": context.width,
        "height": context.height,
        "coded_width": context.coded_width,
        "coded_height": context.coded_height,
        "has_b_frames": int(context.has_b_frames),
        "sample_aspect_ratio": _ratio(stream.sample_aspect_ratio),
        "display_aspect_ratio": _ratio(stream.display_aspect_ratio),
        "pix_fmt": context.pix_fmt,
        "r_frame_rate": _rate(stream.base_rate),
        "avg_frame_rate": _rate(stream.average_rate),
    }


def _audio(stream: AudioStream) -> Facts:
    context = stream.codec_context
    return {
        "sample_fmt": context.format.name if context.format else None,
        "sample_rate": str(context.sample_rate),
        "channels": context.channels,
        "channel_layout": context.layout.name,
    }


def _timing(stream: Stream) -> Facts:
    base = stream.time_base
    described: Facts = {"disposition": {flag.name: int(flag in stream.disposition) for flag in Disposition}}
    if base is not None:
        described["time_base"] = f"{base.numerator}/{base.denominator}"
        if stream.start_time is not None:
            described |= {"start_pts": stream.start_time, "start_time": _seconds(stream.start_time * base)}
        if stream.duration is not None:
            described |= {"duration_ts": stream.duration, "duration": _seconds(stream.duration * base)}
    described["nb_frames"] = str(stream.frames) if stream.frames else None
    return described | {"tags": _clean(stream.metadata)}


def _known(described: Facts) -> Facts:
    return {name: value for name, value in described.items() if value is not None}


def _clean(tags: dict[str, str]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in sorted(tags.items())}


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _seconds(time: Fraction) -> str:
    return f"{float(time):.6f}"


def _rate(rate: Fraction | None) -> str:
    return f"{rate.numerator}/{rate.denominator}" if rate else "0/0"


def _ratio(ratio: Fraction | None) -> str | None:
    return f"{ratio.numerator}:{ratio.denominator}" if ratio else None
