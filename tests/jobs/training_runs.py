"""Small runs that can be trained, for the tests of training, evaluation and their faults."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jobs.spark_lab import CLUSTER_PYTHON

from shardmill.adapters.records import Record, write_records
from shardmill.adapters.store import Store, read_sealed
from shardmill.specs.records import RecordPart, RecordSet
from shardmill.specs.run import RunSpec
from shardmill.specs.video_pipeline import VideoPipelineSpec

VOCABULARY = ("red", "tone", "rising", "falling")
SMALL = {"rgb_units": 8, "audio_units": 4, "dense_units": 16, "batch_size": 8, "learning_rate": 0.01, "epochs": 4}


def synthetic_record(index: int, random: np.random.Generator) -> Record:
    """A record whose label 0 is only in rgb, 1 only in audio, and 2 or 3 only in the order of the frames."""
    seconds = int(random.integers(4, 7))
    red, tone, falls = (bool(random.integers(2)) for _ in range(3))
    ramp = np.linspace(40, 210, seconds) if not falls else np.linspace(210, 40, seconds)
    rgb = random.normal(128, 10, (seconds, 1024))
    rgb[:, :300] += 50 if red else -50
    rgb[:, 300:800] = ramp[:, None]
    audio = random.normal(128, 10, (seconds, 128)) + (60 if tone else -60)
    labels = tuple(label for label, there in enumerate((red, tone, not falls, falls)) if there)
    return Record(f"v{index:06d}", labels, rgb.clip(0, 255).astype(np.uint8), audio.clip(0, 255).astype(np.uint8))


def make_run(folder: Path, name: str = "run-1", train_parts: int = 3, **asked: object) -> RunSpec:
    """Write records, records.json and spec.json of a run into a lake."""
    run = RunSpec.model_validate(
        {
            "run": name,
            "started": "2026-11-21T00:00:00Z",
            "asked": VideoPipelineSpec.model_validate({"lake": folder.as_uri(), **SMALL, **asked}),
        }
    )
    random = np.random.default_rng(0)

    def part(number: int, count: int) -> RecordPart:
        path = folder / f"part-{number}.tfrecord"
        write_records(path, [synthetic_record(1000 * number + index, random) for index in range(count)])
        return RecordPart(uri=path.as_uri(), sha256=hashlib.sha256(path.read_bytes()).hexdigest(), records=count)

    folder.mkdir(parents=True, exist_ok=True)
    records = RecordSet(
        vocabulary=VOCABULARY,
        max_frames=6,
        train=tuple(part(number, 20) for number in range(train_parts)),
        validation=tuple(part(100 + number, 10) for number in range(2)),
    )
    store = Store(run.folder, create=True)
    store.put("records.json", records.to_json())
    store.put("spec.json", run.to_json())
    return run


def records_of(run: RunSpec) -> RecordSet:
    return read_sealed(Store(run.folder), "records.json", RecordSet)


def start_jobs(run: RunSpec, environment: dict[str, str], *jobs: str) -> subprocess.Popen[str]:
    program = "import sys, importlib\nfor job in sys.argv[2:]:\n"
    program += "    assert importlib.import_module(f'shardmill.jobs.{job}').main([sys.argv[1]]) == 0\n"
    command = [str(CLUSTER_PYTHON), "-c", program, f"{run.folder}/spec.json", *jobs]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def lines_until(process: subprocess.Popen[str], wanted: str) -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:
        yield line
        if wanted in line:
            return
