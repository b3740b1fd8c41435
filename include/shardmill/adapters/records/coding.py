"""Records as Examples and SequenceExamples, in TFRecord files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError

from shardmill.adapters.records.framing import RecordError, frame, read_payloads
from shardmill.adapters.records.messages import Example, SequenceExample
from shardmill.adapters.records.values import Record, VideoRecord, check_frames, check_means, mean_record
from shardmill.adapters.records.wire import view_record, view_video_record
from shardmill.core.frames import AUDIO_VALUES, RGB_VALUES

Value = TypeVar("Value")


def encode_record(record: Record) -> bytes:
    """Serialise a record as a SequenceExample; equal records give equal bytes."""
    check_frames(record)
    message = SequenceExample()
    _put_context(message.context.feature, record)
    for name, frames in (("rgb", record.rgb), ("audio", record.audio)):
        features = message.feature_lists.feature_list[name].feature
        for values in frames:
            features.add().bytes_list.value.append(values.tobytes())
    return bytes(message.SerializeToString(deterministic=True))


def encode_video_record(record: VideoRecord) -> bytes:
    """Serialise a video-level record as an Example; equal records give equal bytes."""
    check_means(record)
    message = Example()
    features = message.features.feature
    _put_context(features, record)
    features["mean_rgb"].float_list.value.extend(record.mean_rgb.tolist())
    features["mean_audio"].float_list.value.extend(record.mean_audio.tolist())
    return bytes(message.SerializeToString(deterministic=True))


def _put_context(features: Any, record: Record | VideoRecord) -> None:
    features["id"].bytes_list.value.append(record.id.encode())
    if record.has_labels:
        features["labels"].int64_list.value.extend(record.labels)


def write_records(path: Path, records: Iterable[Record | VideoRecord]) -> list[int]:
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
                payload = encode_record(record) if isinstance(record, Record) else encode_video_record(record)
                sizes.append(file.write(frame(payload)))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return sizes


def _parse(kind: Any, payload: bytes) -> Any:
    message = kind()
    try:
        message.ParseFromString(payload)
    except DecodeError as error:
        raise RecordError(f"expected {_NAMES[kind]}, found other bytes") from error
    return message


_NAMES = {Example: "an Example", SequenceExample: "a SequenceExample"}


def _context(features: Any) -> tuple[str, tuple[int, ...], bool]:
    ids = next((list(features[key].bytes_list.value) for key in ("id", "video_id") if key in features), [])
    if len(ids) != 1:
        raise RecordError(f"expected a feature 'id' or 'video_id' with one value, found {sorted(features)}")
    labels = tuple(features["labels"].int64_list.value) if "labels" in features else ()
    return ids[0].decode(errors="replace"), labels, "labels" in features


def _stack(message: Any, name: str, values: int) -> np.ndarray:
    frames: list[bytes] = []
    # Asked of a map that lacks the name, protobuf would add it.
    lists = message.feature_lists.feature_list
    for feature in lists[name].feature if name in lists else ():
        value: Sequence[bytes] = feature.bytes_list.value
        if len(value) != 1 or len(value[0]) != values:
            found = [len(item) for item in value]
            raise RecordError(
                f"expected frame {len(frames)} of {name!r} as one string of {values} bytes, found {found}"
            )
        frames.append(value[0])
    return np.frombuffer(b"".join(frames), np.uint8).reshape(-1, values)


def decode_record(payload: bytes) -> Record:
    """Read a SequenceExample of YouTube-8M, ours or Google's (``id`` was once ``video_id``).

    The arrays are views of the payload where it is laid out as is usual.

    Raises:
        RecordError: it is no video with frames.
    """
    if (viewed := view_record(payload)) is not None:
        return viewed
    message = _parse(SequenceExample, payload)
    name, labels, has_labels = _context(message.context.feature)
    rgb, audio = _stack(message, "rgb", RGB_VALUES), _stack(message, "audio", AUDIO_VALUES)
    if len(rgb) != len(audio):
        raise RecordError(f"expected as many frames of rgb as of audio, found {len(rgb)} and {len(audio)}")
    return Record(name, labels, rgb, audio, has_labels)


def decode_video_record(payload: bytes) -> VideoRecord:
    """Read an Example of YouTube-8M, ours or Google's. Raises RecordError where it is no video with means."""
    record = view_video_record(payload) or _parse_video_record(payload)
    check_means(record)
    return record


def decode_means(payload: bytes) -> VideoRecord:
    """Read an Example, or make the means of a SequenceExample's frames. Raises RecordError where it is neither."""
    if (viewed := view_video_record(payload)) is None:
        # Either message can be parsed as the other; that with lists of frames is a SequenceExample.
        if len(_parse(SequenceExample, payload).feature_lists.feature_list):
            return mean_record(decode_record(payload))
        viewed = _parse_video_record(payload)
    check_means(viewed)
    return viewed


def _parse_video_record(payload: bytes) -> VideoRecord:
    features = _parse(Example, payload).features.feature
    name, labels, has_labels = _context(features)
    means = []
    for mean in ("mean_rgb", "mean_audio"):
        if mean not in features:
            raise RecordError(f"expected a feature {mean!r}, found {sorted(features)}")
        means.append(np.array(features[mean].float_list.value, np.float32))
    return VideoRecord(name, labels, means[0], means[1], has_labels)


def _read(content: bytes | Iterable[bytes], name: str, decode: Callable[[bytes], Value]) -> Iterator[Value]:
    for offset, payload in read_payloads(content, name):
        try:
            yield decode(payload)
        except RecordError as error:
            raise RecordError(f"{name}, record at offset {offset}: {error}") from error


def read_records(content: bytes | Iterable[bytes], name: str) -> Iterator[Record]:
    """Yield the records of a TFRecord file.

    Args:
        content: the whole file, or its chunks in order, e.g. from ``Store.stream``.
        name: the file's name, for messages.

    Raises:
        RecordError: where the file is cut or damaged, or a record is no video with frames.
    """
    return _read(content, name, decode_record)


def read_video_records(content: bytes | Iterable[bytes], name: str) -> Iterator[VideoRecord]:
    """Yield the video-level records of a TFRecord file; as ``read_records`` otherwise."""
    return _read(content, name, decode_video_record)
