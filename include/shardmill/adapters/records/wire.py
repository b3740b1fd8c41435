"""Records taken from protobuf's wire format as views of its bytes, without copying a frame.

Every writer that is known lays the frames of a list at one distance from one another: each is a Feature that holds
a BytesList of one value. So a list of n frames is an array of n rows, checked by comparing the bytes before each frame.
Whatever is laid out otherwise, though it may be right, is left to the general parser: here it is None.

The wire format: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import numpy as np

from shardmill.adapters.records.values import Record, VideoRecord
from shardmill.core.frames import AUDIO_VALUES, RGB_VALUES

# A tag is the number of a field times 8, and 2 for one that is a length and so many bytes.
_FIRST, _SECOND, _THIRD = 0x0A, 0x12, 0x1A
_SMALL = 0x80
"""Smaller numbers are one byte."""
_Span = tuple[int, int]
_NOTHING = (0, 0)


class _OtherLayoutError(Exception):
    """The bytes are not laid out as is usual."""


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Read a number of at most 63 bits, and give the place behind it."""
    value, shift = 0, 0
    while (byte := data[at]) >= _SMALL:
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        if shift > 56:
            raise _OtherLayoutError
    return value | byte << shift, at + 1


def _field(data: bytes, at: int, tag: int) -> _Span:
    """Give the span of the field that begins at ``at``, which must have this tag."""
    if data[at] != tag:
        raise _OtherLayoutError
    size, start = _number(data, at + 1)
    return start, start + size


def _only(data: bytes, span: _Span, tag: int) -> _Span:
    """Give the span of the one field that a message has."""
    found = _field(data, span[0], tag)
    if found[1] != span[1]:
        raise _OtherLayoutError
    return found


def _map(data: bytes, span: _Span) -> dict[bytes, _Span]:
    """Read a map's keys and the spans of its values."""
    at, end = span
    found = {}
    while at < end:
        entry, at = _field(data, at, _FIRST)
        start, stop = _field(data, entry, _FIRST)
        value = _field(data, stop, _SECOND)
        key = data[start:stop]
        if value[1] != at or not key.isascii():
            raise _OtherLayoutError
        found[key] = value
    if at != end:
        raise _OtherLayoutError
    return found


def _id(data: bytes, features: dict[bytes, _Span]) -> str:
    span = features.get(b"id") or features.get(b"video_id")
    if span is None:
        raise _OtherLayoutError
    start, stop = _only(data, _only(data, span, _FIRST), _FIRST)
    return data[start:stop].decode(errors="replace")


def _labels(data: bytes, features: dict[bytes, _Span]) -> tuple[int, ...]:
    span = features.get(b"labels", _NOTHING)
    if span[0] == span[1]:
        return ()
    numbers = _only(data, span, _THIRD)
    if numbers[0] == numbers[1]:
        return ()
    at, end = _only(data, numbers, _FIRST)
    labels = []
    while at < end:
        label, at = _number(data, at)
        labels.append(label)
    if at != end:
        raise _OtherLayoutError
    return tuple(labels)


def _row_prefix(values: int) -> bytes:
    """Give the bytes that stand before each frame of a list: three tags with their lengths."""

    def nested(length: int) -> bytes:
        return bytes([_FIRST, length & 0x7F | _SMALL, length >> 7])

    return nested(values + 6) + nested(values + 3) + nested(values)


_PREFIXES = {values: _row_prefix(values) for values in (RGB_VALUES, AUDIO_VALUES)}


def _rows(data: bytes, span: _Span, values: int) -> np.ndarray:
    prefix = _PREFIXES[values]
    stride = len(prefix) + values
    count, rest = divmod(span[1] - span[0], stride)
    if rest:
        raise _OtherLayoutError
    rows = np.frombuffer(data, np.uint8, count * stride, span[0]).reshape(count, stride)
    if rows[:, : len(prefix)].tobytes() != prefix * count:
        raise _OtherLayoutError
    return rows[:, len(prefix) :]


def view_record(data: bytes) -> Record | None:
    """Read a SequenceExample; None where it is laid out in another way, or is none."""
    try:
        context = _field(data, 0, _FIRST)
        lists = _field(data, context[1], _SECOND)
        if lists[1] != len(data):
            return None
        features, rows = _map(data, context), _map(data, lists)
        rgb = _rows(data, rows.get(b"rgb", _NOTHING), RGB_VALUES)
        audio = _rows(data, rows.get(b"audio", _NOTHING), AUDIO_VALUES)
        if len(rgb) != len(audio):
            return None
        return Record(_id(data, features), _labels(data, features), rgb, audio, b"labels" in features)
    except (_OtherLayoutError, IndexError, ValueError):  # the latter two: beyond the end
        return None


def _floats(data: bytes, features: dict[bytes, _Span], name: bytes, values: int) -> np.ndarray:
    span = features.get(name)
    if span is None:
        raise _OtherLayoutError
    start, stop = _only(data, _only(data, span, _SECOND), _FIRST)
    if stop - start != 4 * values:
        raise _OtherLayoutError
    return np.frombuffer(data[start:stop], "<f4")


def view_video_record(data: bytes) -> VideoRecord | None:
    """Read an Example; None where it is laid out in another way, or is none."""
    try:
        features = _map(data, _only(data, (0, len(data)), _FIRST))
        return VideoRecord(
            _id(data, features),
            _labels(data, features),
            _floats(data, features, b"mean_rgb", RGB_VALUES),
            _floats(data, features, b"mean_audio", AUDIO_VALUES),
            b"labels" in features,
        )
    except (_OtherLayoutError, IndexError, ValueError):
        return None
