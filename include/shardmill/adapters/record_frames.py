"""A Spark DataFrame of records, for who wants one. Training and evaluation do not: they stream batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from shardmill.adapters.records import (
    Damage,
    Record,
    RecordError,
    VideoRecord,
    checked_chunks,
    decode_means,
    decode_record,
    read_entries,
)
from shardmill.adapters.store import Store, split_uri
from shardmill.specs.records import RecordPart

Level = Literal["frame", "video"]
_BATCH_BYTES = 32 * 1024 * 1024
"""Of the records of one Arrow batch; an executor holds about three of them for each task."""
_COLUMNS: dict[Level, tuple[str, str]] = {
    "frame": ("rgb array<binary>", "audio array<binary>"),
    "video": ("mean_rgb array<float>", "mean_audio array<float>"),
}


@dataclass(frozen=True)
class _Row:
    """A row of the frame: a record, or the reason why there is none."""

    file: str
    offset: int
    record: Record | VideoRecord | None
    reject: str | None = None

    @property
    def size(self) -> int:
        if self.record is None:
            return 0
        streams = _streams(self.record)
        return streams[0].nbytes + streams[1].nbytes


def record_frame(session: SparkSession, parts: Sequence[RecordPart | str], level: Level = "frame") -> DataFrame:
    """Give the records of TFRecord files as a DataFrame, read by the executors, a task for each file.

    Its columns: ``file`` and ``offset`` (where the record lies), ``id``, ``labels`` (array of long; null where the file
    has none), ``rgb`` and ``audio`` (arrays of binary: 1024 and 128 bytes for each second) or at video level
    ``mean_rgb`` and ``mean_audio`` (arrays of float, dequantised; means are made of frame-level records), ``reject``.
    A record that cannot be used is a row with nothing but ``file``, ``offset`` and the reason in ``reject``; behind a
    damaged header the rest of a file is one such row.

    Args:
        parts: the files, e.g. ``RecordSet.train``, whose SHA-256 are compared; or their URIs.

    Raises:
        DamagedObjectError, MissingObjectError (in the executors): a part is not the file that it was, or not there.
    """
    files = [(part, "") if isinstance(part, str) else (part.uri, part.sha256) for part in parts]
    listed = session.sparkContext.parallelize(files, max(len(files), 1)).toDF("file string, sha256 string")
    columns = ("file string", "offset long", "id string", "labels array<long>", *_COLUMNS[level], "reject string")

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for uri, sha256 in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield from (_arrow(rows, level) for rows in _grouped(_rows(uri, sha256, level)))

    return listed.mapInArrow(read, ", ".join(columns))


def _rows(uri: str, sha256: str, level: Level) -> Iterator[_Row]:
    folder, key = split_uri(uri)
    chunks = checked_chunks(Store(folder).stream(key), sha256, uri)
    decode = decode_record if level == "frame" else decode_means
    for entry in read_entries(chunks):
        if isinstance(entry, Damage):
            rest = "; from there on the file is lost" if entry.ends_file else ""
            yield _Row(uri, entry.offset, None, entry.reason + rest)
            continue
        try:
            yield _Row(uri, entry.offset, decode(entry.payload))
        except RecordError as error:
            yield _Row(uri, entry.offset, None, str(error))
    for _ in chunks:  # behind damage
        pass


def _grouped(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    group: list[_Row] = []
    size = 0
    for row in rows:
        group.append(row)
        size += row.size
        if size >= _BATCH_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _streams(record: Record | VideoRecord) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(record, Record):
        return record.rgb, record.audio
    return record.mean_rgb, record.mean_audio


def _arrow(rows: Sequence[_Row], level: Level) -> pa.RecordBatch:
    records = [row.record for row in rows]
    names = [column.split()[0] for column in _COLUMNS[level]]
    streams = [
        _lists([None if record is None else _streams(record)[place] for record in records], level) for place in (0, 1)
    ]
    labels = [record.labels if record is not None and record.has_labels else None for record in records]
    return pa.RecordBatch.from_pydict(
        {
            "file": pa.array([row.file for row in rows], pa.string()),
            "offset": pa.array([row.offset for row in rows], pa.int64()),
            "id": pa.array([record and record.id for record in records], pa.string()),
            "labels": pa.array(labels, pa.list_(pa.int64())),
            **dict(zip(names, streams, strict=True)),
            "reject": pa.array([row.reject for row in rows], pa.string()),
        }
    )


def _lists(streams: Sequence[np.ndarray | None], level: Level) -> pa.ListArray:
    """Make a list of each stream, of its frames or of its means, without a Python object for each."""
    there = [stream for stream in streams if stream is not None]
    joined = np.concatenate(there) if there else np.zeros((0, 1), np.uint8 if level == "frame" else np.float32)
    offsets = np.zeros(len(streams) + 1, np.int32)
    offsets[1:] = np.cumsum([0 if stream is None else len(stream) for stream in streams])
    values = pa.array(joined.ravel(), pa.float32()) if level == "video" else _binaries(joined)
    missing = pa.array([stream is None for stream in streams], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, mask=missing)


def _binaries(frames: np.ndarray) -> pa.BinaryArray:
    count, width = frames.shape
    places = np.arange(count + 1, dtype=np.int32) * width
    return pa.BinaryArray.from_buffers(pa.binary(), count, [None, pa.py_buffer(places), pa.py_buffer(frames)])
