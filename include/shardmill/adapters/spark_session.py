"""Spark: a context for one job, and rows of records in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from pyspark import RDD, SparkConf, SparkContext, StorageLevel

from shardmill.adapters.store import read_uri
from shardmill.core.frames import multi_hot, stack_frames
from shardmill.core.worker_shares import PartSlice, worker_shares
from shardmill.specs.records import RecordPart, RecordSet

EXECUTOR_ENVIRONMENT = {
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "CUDA_MODULE_LOADING": "LAZY",
    # glibc gives the large blocks of a batch back to the kernel and takes them again for the next: kept, reading takes
    # a quarter less of the processor and a step 7 % less, with the same peak of memory.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TOP_PAD_": str(64 * 1024 * 1024),
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(4 * 1024 * 1024 * 1024),
}
THREAD_VARIABLES = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")
"""What limits the threads of a task's process; tasks beside one another must not fight over the cores."""


class RecordLike(Protocol):
    """What is used of a record."""

    @property
    def id(self) -> str: ...
    @property
    def labels(self) -> tuple[int, ...]: ...
    @property
    def rgb(self) -> npt.NDArray[np.uint8]: ...
    @property
    def audio(self) -> npt.NDArray[np.uint8]: ...


ReadRecords = Callable[[bytes, str], Iterable[RecordLike]]


class Row(NamedTuple):
    """A record as the model takes it."""

    id: str
    frames: npt.NDArray[np.uint8]
    """uint8 [max_frames, 1152], padded with zeros."""
    truth: npt.NDArray[np.float32]
    """float32 [labels] of zeros and ones."""


class PartError(ValueError):
    """A part of the lake is not what the record set says."""


@contextmanager
def spark_context(name: str, *, settings: Mapping[str, str] | None = None) -> Iterator[SparkContext]:
    """Open the Spark context that spark-submit prepared, and stop it.

    Args:
        settings: Spark's, for this one application.
    """
    conf = SparkConf().setAppName(name)
    # As many threads as a task has cores: one on a laptop, where two processes of one thread each beat one of two.
    threads = conf.get("spark.task.cpus", "1") or "1"
    for key, value in {
        "spark.ui.showConsoleProgress": "false",  # it would fill the step's log
        "spark.speculation": "false",
        "spark.dynamicAllocation.enabled": "false",
        "spark.python.worker.reuse": "true",
        **{f"spark.executorEnv.{key}": threads for key in THREAD_VARIABLES},
        **{f"spark.executorEnv.{key}": value for key, value in EXECUTOR_ENVIRONMENT.items()},
        **(settings or {}),
    }.items():
        conf.set(key, value)
    context = SparkContext.getOrCreate(conf)
    context.setLogLevel("WARN")
    try:
        yield context
    finally:
        context.stop()


@dataclass(frozen=True)
class _RowReader:
    """Reads a worker's share of records; runs on the executors, which read the lake themselves."""

    read_records: ReadRecords
    max_frames: int
    labels: int

    def __call__(self, share: Iterable[PartSlice]) -> Iterator[Row]:
        for piece in share:
            content = read_uri(piece.part.uri)
            found = hashlib.sha256(content).hexdigest()
            if found != piece.part.sha256:
                raise PartError(f"{piece.part.uri} is damaged: expected SHA-256 {piece.part.sha256}, found {found}")
            yield from self._rows(piece, content)

    def _rows(self, piece: PartSlice, content: bytes) -> Iterator[Row]:
        count = 0
        for index, record in enumerate(self.read_records(content, piece.part.uri)):
            count += 1
            if piece.start <= index < piece.stop:
                frames = stack_frames(record.rgb, record.audio, self.max_frames)
                yield Row(record.id, frames, multi_hot(record.labels, self.labels))
        if count != piece.part.records:
            raise PartError(f"{piece.part.uri}: expected {piece.part.records} records, found {count}")


def record_rows(
    context: SparkContext,
    parts: Sequence[RecordPart],
    record_set: RecordSet,
    *,
    read_records: ReadRecords,
    partitions: int,
    seed: int = 0,
) -> RDD[Row]:
    """Give the rows of parts, in partitions of equal size."""
    shares = worker_shares(parts, partitions, seed)
    reader = _RowReader(read_records, record_set.max_frames, len(record_set.vocabulary))
    return context.parallelize(shares, len(shares)).flatMap(reader)


def keep(rows: RDD[Row]) -> RDD[Row]:
    """Let the executors keep rows, in memory or on their disks, once they were read."""
    return rows.persist(StorageLevel.MEMORY_AND_DISK)
