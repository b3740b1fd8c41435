"""Time the reading of records: ours against tf.data, each in a process of its own on one core, in turn.

Run: ``.local/cluster/bin/python scripts/bench_records.py [MEGABYTES] [ROUNDS]``. Sides:

- ``ours``: ``RecordBatches`` as a worker uses it: SHA-256 and checksums compared, shuffled, batches by length, uint8;
- ``tf_batch``: ``TFRecordDataset``, batches of bytes, TensorFlow's batch parser and ``decode_raw``: uint8, as ours;
- ``tf_single``: as YouTube-8M's own readers do it: each record parsed by itself, dequantised to float32 and padded to
  300 frames, then batched.

Prints a line for each side with the medians: records a second by the clock, and by the processor's time, which a
neighbour on the machine disturbs less. Then the peak memory of ours at 1 and 10 times the data.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from shardmill.adapters.record_batches import BatchPlan, RecordBatches
from shardmill.adapters.records import Record, mean_record, write_records
from shardmill.core.worker_shares import PartSlice
from shardmill.specs.records import RecordPart

LABELS, BATCH, PARTS = 3862, 64, 4
SETS: dict[str, tuple[int, Literal["frame", "video"]]] = {
    "60 frames": (60, "frame"),
    "300 frames": (300, "frame"),
    "video level": (1, "video"),
}
Side = Callable[[Path, str], Iterator[int]]


def make_files(folder: Path, megabytes: float) -> None:
    """Write random records into four files."""
    frames, level = SETS[folder.name]
    count = int(megabytes * 1e6 / (4700 if level == "video" else frames * 1152) / PARTS)
    random = np.random.default_rng(0)
    folder.mkdir()
    for part in range(PARTS):
        made = []
        for number in range(count):
            rgb, audio = (random.integers(0, 256, (frames, values), np.uint8) for values in (1024, 128))
            labels = tuple(random.choice(LABELS, 3, replace=False).tolist())
            record = Record(f"{part}-{number:06d}", labels, rgb, audio)
            made.append(mean_record(record) if level == "video" else record)
        write_records(folder / f"{count}-{part}.tfrecord", made)


def ours(folder: Path, times: int = 1) -> Iterator[int]:
    """Yield the records of each batch; the files are read ``times`` times, as if they were as many more."""
    frames, level = SETS[folder.name]
    share = []
    for path in sorted(folder.iterdir()):
        count = int(path.name.split("-")[0])
        part = RecordPart(uri=path.as_uri(), sha256=hashlib.sha256(path.read_bytes()).hexdigest(), records=count)
        share.append(PartSlice(part, 0, count))
    plan = BatchPlan(BATCH, LABELS, frames, level=level, memory_mb=0)
    yield 0  # what was hashed before would be known from the run's records
    yield from (batch.records for batch in RecordBatches(share * times, plan, rank=0).epoch(1))


def _tensorflow() -> Any:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf


def _features(tf: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    context = {"id": tf.io.FixedLenFeature([], tf.string), "labels": tf.io.VarLenFeature(tf.int64)}
    frames = {name: tf.io.FixedLenSequenceFeature([], tf.string) for name in ("rgb", "audio")}
    means = {
        "mean_rgb": tf.io.FixedLenFeature([1024], tf.float32),
        "mean_audio": tf.io.FixedLenFeature([128], tf.float32),
    }
    return context, frames, means


def tf_batch(folder: Path) -> Iterator[int]:
    """Yield the records of each batch."""
    tf = _tensorflow()
    context, frames, means = _features(tf)

    def of_frames(raw: Any) -> Any:
        found, lists, _ = tf.io.parse_sequence_example(raw, context, frames)
        streams = [
            tf.io.decode_raw(lists[name], tf.uint8, fixed_length=n) for name, n in (("rgb", 1024), ("audio", 128))
        ]
        return found["id"], tf.concat(streams, -1), tf.sparse.to_indicator(found["labels"], LABELS)

    def of_means(raw: Any) -> Any:
        found = tf.io.parse_example(raw, context | means)
        both = tf.concat([found["mean_rgb"], found["mean_audio"]], -1)
        return found["id"], both, tf.sparse.to_indicator(found["labels"], LABELS)

    yield 0
    files = [str(path) for path in sorted(folder.iterdir())]
    batches = tf.data.TFRecordDataset(files).batch(BATCH)
    batches = batches.map(of_means if SETS[folder.name][1] == "video" else of_frames).prefetch(2)
    yield from (len(ids) for ids, _, _ in batches)


def tf_single(folder: Path) -> Iterator[int]:
    """Yield the records of each batch."""
    tf = _tensorflow()
    context, frames, means = _features(tf)

    def of_frames(raw: Any) -> Any:
        found, lists = tf.io.parse_single_sequence_example(raw, context, frames)
        streams = []
        for name, values in (("rgb", 1024), ("audio", 128)):
            decoded = tf.reshape(tf.cast(tf.io.decode_raw(lists[name], tf.uint8), tf.float32), [-1, values])
            decoded = (decoded * (4 / 255) + (4 / 512 - 2))[:300]
            streams.append(tf.pad(decoded, [[0, 300 - tf.shape(decoded)[0]], [0, 0]]))
        return found["id"], tf.concat(streams, 1), tf.sparse.to_indicator(found["labels"], LABELS)

    def of_means(raw: Any) -> Any:
        found = tf.io.parse_single_example(raw, context | means)
        both = tf.concat([found["mean_rgb"], found["mean_audio"]], 0)
        return found["id"], both, tf.sparse.to_indicator(found["labels"], LABELS)

    yield 0
    files = [str(path) for path in sorted(folder.iterdir())]
    records = tf.data.TFRecordDataset(files).map(of_means if SETS[folder.name][1] == "video" else of_frames)
    yield from (len(ids) for ids, _, _ in records.batch(BATCH).prefetch(2))


SIDES: dict[str, Callable[..., Iterator[int]]] = {"ours": ours, "tf_batch": tf_batch, "tf_single": tf_single}


def measure(side: str, folder: str, times: str = "1") -> None:
    """Print records, seconds, seconds of the processor and peak megabytes of one side; what it imports is not timed."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    more = {} if times == "1" else {"times": int(times)}
    batches = SIDES[side](Path(folder), **more)
    next(batches)
    wall, processor = time.monotonic(), time.process_time()
    records = sum(batches)
    figures = records, time.monotonic() - wall, time.process_time() - processor
    print(json.dumps([*figures, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000]))


def _run(*arguments: str | Path) -> tuple[float, ...]:
    argv = [sys.executable, __file__, "measure", *map(str, arguments)]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    answer = subprocess.run(argv, check=True, stdout=subprocess.PIPE, env=environment).stdout
    return tuple(json.loads(answer.splitlines()[-1]))


def main(megabytes: float, rounds: int) -> None:
    """Run the rounds and print the medians."""
    with tempfile.TemporaryDirectory() as name:
        for data in SETS:
            folder = Path(name) / data
            make_files(folder, megabytes)
            found: dict[str, list[tuple[float, ...]]] = {side: [] for side in SIDES}
            for _ in range(rounds):
                for side in SIDES:
                    found[side].append(_run(side, folder))
            for side, figures in found.items():
                wall, processor = (statistics.median(f[0] / f[of] for f in figures) for of in (1, 2))
                peak = max(f[3] for f in figures)
                print(f"{data}, {side}: {wall:.0f} records/s, {processor:.0f} a processor second, {peak:.0f} MB peak")
            small, large = _run("ours", folder)[3], _run("ours", folder, "10")[3]
            print(f"{data}, ours: {small:.0f} MB peak, {large:.0f} MB at 10 times the data", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(*sys.argv[2:])
    else:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 150.0, int(sys.argv[2]) if len(sys.argv) > 2 else 3)
