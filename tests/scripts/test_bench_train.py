"""The bench of training: its records, its figures, and all of it on as few records as can be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shardmill.adapters.records import read_records
from shardmill.core.frames import RGB_VALUES

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import bench_train  # noqa: E402
import bench_train_data  # noqa: E402
from bench_train_runs import Outcome  # noqa: E402


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_records_are_made_once_and_are_the_same_anywhere(cache: Path, tmp_path: Path) -> None:
    first = bench_train_data.make_records(cache / "train-8", 8, 2)
    again = bench_train_data.make_records(cache / "train-8", 8, 2)
    other = bench_train_data.make_records(tmp_path, 8, 2)

    assert again == first
    assert [part.sha256 for part in (*other.train, *other.validation)] == [
        part.sha256 for part in (*first.train, *first.validation)
    ]
    (part,) = first.train
    records = list(read_records(Path(part.uri.removeprefix("file://")).read_bytes(), part.uri))
    assert len({record.rgb.tobytes() for record in records}) == part.records == 8
    assert all(60 <= len(record.rgb) <= 300 and record.labels for record in records)
    assert all(record.rgb.any(axis=1).all() for record in records)


def test_a_label_is_told_by_both_streams_together_and_by_neither_alone() -> None:
    records = [bench_train_data.synthetic_record("video", True, index) for index in range(120)]
    single = [record for record in records if len(record.labels) == 1]
    scenes = np.array([record.labels[0] // bench_train_data.SOUNDS for record in single])
    sounds = np.array([record.labels[0] % bench_train_data.SOUNDS for record in single])
    for stream, frames, own, other in (
        (0, [record.rgb for record in single], scenes, sounds),
        (1, [record.audio for record in single], sounds, scenes),
    ):
        means = np.stack([values.mean(axis=0) - 128 for values in frames])
        kinds = sorted(set(own.tolist()))
        patterns = np.stack([bench_train_data._pattern(stream, kind)[: means.shape[1]] for kind in kinds])
        assert ((means @ patterns.T).argmax(axis=1) == own).mean() > 0.9
        for kind in kinds:
            assert len(set(other[own == kind].tolist())) > 1
    assert max(len(record.labels) for record in records) == 2
    assert {record.rgb.shape[1] for record in records} == {RGB_VALUES}


def outcome(epoch: float, wall: float, gaps: list[float]) -> Outcome:
    reached = [((number + 1) * wall / len(gaps), gap) for number, gap in enumerate(gaps)]
    return Outcome(wall=wall, seconds=[9.0, epoch, epoch], all_seconds=9 + 2 * epoch, gaps=reached, rss=100)


def test_figures_are_medians_of_the_ratios_within_each_round() -> None:
    def one(slow: float) -> dict[str, Outcome]:
        elephas = Outcome(wall=120 * slow, seconds=[30, 40 * slow], all_seconds=80, gaps=[(120 * slow, 0.5)])
        return {
            "keras_fit": outcome(10 * slow, 60 * slow, [0.5, 0.7, 0.9]),
            "elephas_sync": elephas,
            "elephas_async": Outcome(wall=130, seconds=[30, 50], all_seconds=80, gaps=[(40, 0.5), (130, 0.9)]),
            "single": outcome(8 * slow, 50, [0.5, 0.7, 0.9]),
            "local_sgd": outcome(5 * slow, 40 * slow, [0.6, 0.86, 0.9]),
            "allreduce": outcome(6 * slow, 45, [0.6, 0.8, 0.85]),
        }

    found = bench_train.figures([one(1), one(2), one(1)], 100)

    assert found["keras_fit_examples_per_s"] == 10
    assert (found["elephas_sync"], found["elephas_async"]) == (5, 4)
    assert (found["ours_1"], found["ours_2"]) == (12.5, 20)
    assert (found["of_single"], found["vs_elephas"], found["speedup_1_to_2"]) == (2, 3, 1.6)
    assert found["target_gap"] == 0.855
    assert found["time_to_gap"] == {
        "keras_fit": 60,
        "elephas_sync": None,
        "elephas_async": 130,
        "single": 50,
        "local_sgd": pytest.approx(26.7),
        "allreduce": None,
    }


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_bench_runs_everything_in_turn_and_its_last_line_is_json(cache: Path) -> None:
    small = ["--rounds", "1", "--records", "48", "--epochs", "2", "--batches", "16", "--units", "4"]
    command = [sys.executable, SCRIPTS / "bench_train.py", *small, "--cache", cache]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1100)

    assert done.returncode == 0, done.stderr
    assert "less than a minute: ask for more RECORDS" in done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for name in ("keras_fit_examples_per_s", "ours_1", "ours_2", "of_single", "vs_elephas", "speedup_1_to_2"):
        assert found[name] > 0
    assert found["time_to_gap"].keys() == found["peak_rss_mb"].keys() == bench_train.SIDES.keys()
    assert all(memory > 100 for memory in found["peak_rss_mb"].values())
