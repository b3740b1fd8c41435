"""Records: YouTube-8M's frame-level SequenceExamples in TFRecord files, without tensorflow."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

RGB_VALUES = 1024
AUDIO_VALUES = 128
MAX_RECORD_BYTES = 64 * 1024 * 1024
"""A longer record is damage, whatever its checksum says: 300 frames are 0.4 MB."""
_HEADER = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")


class RecordError(ValueError):
    """A TFRecord file or a record in it is not what it should be; names the file and the offset."""


@dataclass(frozen=True, eq=False)
class Record:
    """One video, a frame a second."""

    id: str
    labels: tuple[int, ...]
    rgb: np.ndarray
    """uint8 [seconds, 1024]."""
    audio: np.ndarray
    """uint8 [seconds, 128]."""


# The descriptors are tensorflow's own (names and numbers of example.proto and feature.proto), in a pool of our own:
# tensorflow registers the same names in the default pool when both live in one process.
_FIELD = descriptor_pb2.FieldDescriptorProto
_KINDS = {"bytes": _FIELD.TYPE_BYTES, "float": _FIELD.TYPE_FLOAT, "int64": _FIELD.TYPE_INT64}
_MESSAGES: dict[str, list[tuple[str, str, bool]]] = {
    "BytesList": [("value", "bytes", True)],
    "FloatList": [("value", "float", True)],
    "Int64List": [("value", "int64", True)],
    "Feature": [
        ("bytes_list", "BytesList", False),
        ("float_list", "FloatList", False),
        ("int64_list", "Int64List", False),
    ],
    "Features": [("feature", "map<Feature>", True)],
    "FeatureList": [("feature", "Feature", True)],
    "FeatureLists": [("feature_list", "map<FeatureList>", True)],
    "Example": [("features", "Features", False)],
    "SequenceExample": [("context", "Features", False), ("feature_lists", "FeatureLists", False)],
}


def _add_map_entry(message: Any, field_name: str, value_type: str) -> str:
    entry = message.nested_type.add(name="".join(word.title() for word in field_name.split("_")) + "Entry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=_FIELD.TYPE_STRING, label=_FIELD.LABEL_OPTIONAL)
    entry.field.add(
        name="value",
        number=2,
        type=_FIELD.TYPE_MESSAGE,
        label=_FIELD.LABEL_OPTIONAL,
        type_name=f".tensorflow.{value_type}",
    )
    return f"{message.name}.{entry.name}"


def _message_classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="shardmill/example.proto", package="tensorflow", syntax="proto3")
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for number, (name, kind, repeated) in enumerate(fields, start=1):
            field = message.field.add(name=name, number=number)
            field.label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            if kind in _KINDS:
                field.type = _KINDS[kind]
                continue
            type_name = _add_map_entry(message, name, kind[4:-1]) if kind.startswith("map<") else kind
            field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".tensorflow.{type_name}"
            if message_name == "Feature":
                field.oneof_index = 0
        if message_name == "Feature":
            message.oneof_decl.add(name="kind")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = ("Example", "SequenceExample")
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.{name}")) for name in names}


_CLASSES = _message_classes()
Example: Any = _CLASSES["Example"]
SequenceExample: Any = _CLASSES["SequenceExample"]


def _masked_crc(content: bytes) -> int:
    crc = int(google_crc32c.value(content))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _frame(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    return length + _CHECKSUM.pack(_masked_crc(length)) + content + _CHECKSUM.pack(_masked_crc(content))


def _check_frames(name: str, frames: np.ndarray, values: int) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 2 or frames.shape[1] != values:
        raise RecordError(f"expected {name} as uint8 [seconds, {values}], found {frames.dtype} {list(frames.shape)}")


def encode_record(record: Record) -> bytes:
    """Serialise a record as a SequenceExample; equal records give equal bytes."""
    _check_frames("rgb", record.rgb, RGB_VALUES)
    _check_frames("audio", record.audio, AUDIO_VALUES)
    if len(record.rgb) != len(record.audio):
        raise RecordError(
            f"expected as many frames as seconds of audio, found {len(record.rgb)} and {len(record.audio)}"
        )
    message = SequenceExample()
    message.context.feature["id"].bytes_list.value.append(record.id.encode())
    message.context.feature["labels"].int64_list.value.extend(record.labels)
    for name, frames in (("rgb", record.rgb), ("audio", record.audio)):
        features = message.feature_lists.feature_list[name].feature
        for frame in frames:
            features.add().bytes_list.value.append(frame.tobytes())
    return bytes(message.SerializeToString(deterministic=True))


def write_records(path: Path, records: Iterable[Record]) -> list[int]:
    """Write a TFRecord file.

    The file appears whole or not at all: it is written beside its place and renamed.

    Returns:
        The bytes of each record with its frame, in order.
    """
    sizes = []
    unfinished = path.with_name(path.name + ".part")
    try:
        with unfinished.open("wb") as file:
            for record in records:
                sizes.append(file.write(_frame(encode_record(record))))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return sizes


class _Chunks:
    """Bytes taken from chunks of any size, with the offset reached."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._buffer = b""
        self._start = 0
        self.offset = 0

    def take(self, count: int) -> bytes:
        """Give the next ``count`` bytes, fewer only at the end."""
        have = len(self._buffer) - self._start
        if have < count:
            pieces = [self._buffer[self._start :]]
            while have < count and (chunk := next(self._chunks, None)) is not None:
                pieces.append(chunk)
                have += len(chunk)
            self._buffer, self._start = b"".join(pieces), 0
        taken = self._buffer[self._start : self._start + count]
        self._start += len(taken)
        self.offset += len(taken)
        return taken


def read_payloads(content: bytes | Iterable[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and the bytes of each entry of a TFRecord file, checksums verified.

    Raises:
        RecordError: where the file is cut or damaged.
    """
    chunks = _Chunks([content] if isinstance(content, bytes) else content)
    while True:
        start = chunks.offset
        header = chunks.take(_HEADER.size)
        if not header:
            return
        if len(header) < _HEADER.size:
            raise RecordError(f"{name} is cut at offset {start}: a record's header has 12 bytes, found {len(header)}")
        length, checksum = _HEADER.unpack(header)
        if _masked_crc(header[:8]) != checksum or length > MAX_RECORD_BYTES:
            raise RecordError(f"{name} is damaged at offset {start}: expected the header of a record; fetch it again")
        body = chunks.take(length + _CHECKSUM.size)
        if len(body) < length + _CHECKSUM.size:
            raise RecordError(f"{name} is cut at offset {start}: expected a record of {length} bytes; fetch it again")
        payload = body[:length]
        if _masked_crc(payload) != _CHECKSUM.unpack(body[length:])[0]:
            raise RecordError(
                f"{name} is damaged at offset {start}: the record's checksum does not match; fetch it again"
            )
        yield start, payload


def _stack(message: Any, name: str, values: int) -> np.ndarray:
    frames: list[bytes] = []
    for feature in message.feature_lists.feature_list[name].feature:
        value: Sequence[bytes] = feature.bytes_list.value
        if len(value) != 1 or len(value[0]) != values:
            found = [len(item) for item in value]
            raise RecordError(
                f"expected frame {len(frames)} of {name!r} as one string of {values} bytes, found {found}"
            )
        frames.append(value[0])
    return np.frombuffer(b"".join(frames), np.uint8).reshape(-1, values)


def decode_record(payload: bytes) -> Record:
    """Read a SequenceExample of YouTube-8M, ours or Google's (``id`` was once ``video_id``)."""
    message = SequenceExample()
    try:
        message.ParseFromString(payload)
    except DecodeError as error:
        raise RecordError("expected a SequenceExample, found other bytes") from error
    context = message.context.feature
    ids = next((list(context[key].bytes_list.value) for key in ("id", "video_id") if key in context), [])
    if len(ids) != 1:
        raise RecordError(f"expected a context feature 'id' or 'video_id' with one value, found {sorted(context)}")
    labels = tuple(context["labels"].int64_list.value) if "labels" in context else ()
    rgb, audio = _stack(message, "rgb", RGB_VALUES), _stack(message, "audio", AUDIO_VALUES)
    if len(rgb) != len(audio):
        raise RecordError(f"expected as many frames of rgb as of audio, found {len(rgb)} and {len(audio)}")
    return Record(ids[0].decode(errors="replace"), labels, rgb, audio)


def read_records(content: bytes | Iterable[bytes], name: str) -> Iterator[Record]:
    """Yield the records of a TFRecord file.

    Args:
        content: the whole file, or its chunks in order, e.g. from ``Store.stream``.
        name: the file's name, for messages.

    Raises:
        RecordError: where the file is cut or damaged, or a record is no video with frames.
    """
    for offset, payload in read_payloads(content, name):
        try:
            yield decode_record(payload)
        except RecordError as error:
            raise RecordError(f"{name}, record at offset {offset}: {error}") from error
