"""Measure the memory of training with all 3,862 labels, on so many records and on ten times as many.

    .local/airflow/bin/python scripts/bench_train_memory.py --records 400

The default model by two workers, on frame-level records of 60 to 300 frames: the smaller set for one epoch and for ten,
the larger for one. Ten epochs of the smaller are as many steps as one of the larger, so that what a process gains with
the time that it lives is not taken for what it gains with its data. A worker's buffers are full, all of them, from some
5,000 records on: 512 to validate for each worker (see `core.metric_sums`), a fifth as many as there are to train. The
last line is JSON: the peaks of all processes together, of the driver, of Java, and of the worker that needs most, for
each; in MB, by their proportional set sizes. Of that worker also the peak of each quarter of its life: flat means that
nothing grows.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench_train_data import make_records
from bench_train_runs import Asked, end_when_told, run_job
from footprint import family, pss_bytes
from shardmill.specs.records import RecordSet
from shardmill.specs.training import TrainSpec

CACHE = Path(__file__).resolve().parent.parent / ".local" / "bench"
LABELS = 3862
_LOOK_SECONDS = 2.0
_DRIVER, _JAVA, _WORKER = "driver", "java", "worker"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=400, help="of the smaller set")
    parser.add_argument("--times", type=int, default=10, help="as many records in the larger set")
    parser.add_argument("--trainer", default=TrainSpec().trainer)
    parser.add_argument(
        "--units", type=int, help="of each layer instead of the form's: fewer read the same data sooner"
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the records are kept")
    asked = parser.parse_args()
    end_when_told()
    found = []
    for count, epochs in ((asked.records, 1), (asked.records, asked.times), (asked.records * asked.times, 1)):
        records = make_records(asked.cache / f"train-{count}", count, max(count // 5, 1))
        with watched() as looks:
            seconds = train(records, asked.trainer, asked.units, epochs)
        found.append({"records": count, "epochs": epochs, **peaks(looks), "wall_s": round(seconds, 1)})
        print(found[-1], file=sys.stderr, flush=True)
    print(json.dumps({"labels": LABELS, "workers": 2, "trainer": asked.trainer, "units": asked.units, "runs": found}))
    return 0


def train(records: RecordSet, trainer: str, units: int | None, epochs: int) -> float:
    """Train for so many epochs, in seconds; what labels the records do not have are there all the same."""
    names = (*records.vocabulary, *(f"label {number}" for number in range(len(records.vocabulary), LABELS)))
    sizes = {} if units is None else dict.fromkeys(("rgb_units", "audio_units", "dense_units"), units)
    training = TrainSpec.model_validate({"trainer": trainer, "workers": 2, "epochs": epochs, **sizes})
    folder = Path(tempfile.mkdtemp(prefix="bench-train-"))
    try:
        return run_job(Asked(trainer, records.model_copy(update={"vocabulary": names}), training), folder).wall
    finally:
        shutil.rmtree(folder)


Look = dict[int, tuple[str, float]]
"""Of each process, by its number: its role, and its MB."""


@contextmanager
def watched() -> Iterator[list[Look]]:
    """Look at this process' descendants every few seconds."""
    looks, ended = list[Look](), threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_SECONDS):
            family_ = [pid for pid in family(os.getpid()) if pid != os.getpid()]
            looks.append({pid: (role, pss_bytes(pid) / 1e6) for pid in family_ if (role := _role(pid))})

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield looks
    finally:
        ended.set()
        thread.join()


def _role(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    if Path(words[0]).name == "java":
        return _JAVA
    return _WORKER if "pyspark.daemon" in words else _DRIVER


def peaks(looks: list[Look]) -> dict[str, object]:
    """Give the highest sum of all, of each role (of workers: of the largest), and that worker's, quarter by quarter."""
    found: dict[str, object] = {"all_mb": round(max(sum(size for _, size in look.values()) for look in looks))}
    for role in (_DRIVER, _JAVA):
        sums = (sum(size for name, size in look.values() if name == role) for look in looks)
        found[f"{role}_mb"] = round(max(sums))
    workers = defaultdict[int, list[float]](list)
    for look in looks:
        for pid, (role, size) in look.items():
            if role == _WORKER:
                workers[pid].append(size)
    largest = max(workers.values(), key=max)
    quarter = -(-len(largest) // 4)
    found["worker_mb"] = round(max(largest))
    found["worker_mb_by_quarter"] = [round(max(largest[at : at + quarter])) for at in range(0, len(largest), quarter)]
    return found


if __name__ == "__main__":
    sys.exit(main())
