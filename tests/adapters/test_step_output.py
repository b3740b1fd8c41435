from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from shardmill.adapters import step_output
from shardmill.adapters.step_output import StepOutput, read_bootstrap_lines, read_last_lines
from shardmill.adapters.store import StoreError, StoreSettings

STEP, CLUSTER = "s-1", "j-1"
SETTINGS = StoreSettings()


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cluster's logs on disk, in place of a bucket."""
    folder = tmp_path / CLUSTER
    folder.mkdir()
    monkeypatch.setattr(step_output, "log_folder", lambda log_uri, cluster: f"file://{tmp_path / cluster}")
    return folder


def put(logs: Path, name: str, text: str, number: int = 0) -> None:
    path = logs / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    os.utime(path, (1_000_000 + number, 1_000_000 + number))


def test_each_line_is_shown_once_as_the_log_grows(logs):
    output = StepOutput("s3://b/logs", CLUSTER, STEP, SETTINGS)
    assert output.look() == []
    put(logs, "steps/s-1/stdout.gz", "one\ntw", 1)
    assert output.look() == ["one"]
    assert output.look() == []
    put(logs, "steps/s-1/stdout.gz", "one\ntwo\nthree\nfour", 2)
    assert output.look() == ["two", "three"]
    assert output.look(last=True) == ["four"]


def test_who_begins_to_look_late_sees_the_end_and_where_the_rest_is(logs):
    put(logs, "steps/s-1/stdout.gz", "".join(f"{number}\n" for number in range(1000)))
    found = StepOutput("s3://b/logs", CLUSTER, STEP, SETTINGS).look()
    assert found[0].startswith("… what came before is in file://")
    assert found[1:] == [str(number) for number in range(950, 1000)]


def test_a_flood_is_cut_to_its_newest_lines(logs):
    output = StepOutput("s3://b/logs", CLUSTER, STEP, SETTINGS)
    put(logs, "steps/s-1/stdout.gz", "0\n", 1)
    output.look()
    put(logs, "steps/s-1/stdout.gz", "".join(f"{number}\n" for number in range(100_000)), 2)
    found = output.look()
    assert found[0] == "… 99799 lines left out"
    assert (found[1], found[-1], len(found)) == ("99800", "99999", 201)


def test_a_log_that_is_too_long_is_left_where_it_is(logs, monkeypatch):
    monkeypatch.setattr(step_output, "LARGEST_BYTES", 10)
    put(logs, "steps/s-1/stdout.gz", "one\n")
    output = StepOutput("s3://b/logs", CLUSTER, STEP, SETTINGS)
    assert "too long to be shown" in output.look()[0]
    assert output.look() == []


def test_a_log_that_unpacks_to_gigabytes_takes_little_memory(logs, monkeypatch):
    import tracemalloc

    monkeypatch.setattr(step_output, "LARGEST_TEXT_BYTES", 32 * 1024 * 1024)
    put(logs, "steps/s-1/stdout.gz", "x" * (128 * 1024 * 1024))
    output = StepOutput("s3://b/logs", CLUSTER, STEP, SETTINGS)
    tracemalloc.start()
    output.look()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 * 1024 * 1024


def test_a_cluster_without_a_place_for_logs_has_no_output():
    assert StepOutput("", CLUSTER, STEP, SETTINGS).look(last=True) == []
    assert read_last_lines("", CLUSTER, STEP, SETTINGS) == ""


def test_a_damaged_log_is_told(logs):
    put(logs, "steps/s-1/stdout.gz", "one\n")
    (logs / "steps/s-1/stdout.gz").write_bytes(b"no gzip at all")
    with pytest.raises(StoreError, match="damaged"):
        StepOutput("s3://b/logs", CLUSTER, STEP, SETTINGS).look()


def test_emrs_own_spelling_of_s3_is_understood():
    assert step_output.log_folder("s3n://bucket/logs/", "j-1") == "s3://bucket/logs/j-1"
    assert step_output.log_folder("", "j-1") == ""


@pytest.mark.parametrize(
    ("application", "fine", "failed"),
    [
        ("app-20261121100000-0000", "0", "1"),
        ("application_1763712000000_0001", "container_1_0001_01_000001", "container_1_0001_01_000002"),
    ],
)
def test_the_failing_executors_last_lines_come_before_the_drivers(logs, application, fine, failed):
    put(logs, "steps/s-1/stdout.gz", "Traceback (most recent call last):\nPy4JJavaError: Job aborted\n")
    put(logs, "steps/s-1/stderr.gz", f"26/11/21 10:00:00 INFO Backend: Connected with app ID {application}\n")
    put(logs, f"containers/{application}/{fine}/stderr.gz", "26/11/21 10:00:00 INFO Executor: Finished\n")
    put(logs, f"containers/{application}/{failed}/stderr.gz", "Traceback (most recent call last):\nOSError: disk\n")
    put(logs, "containers/application_1_0009/container_9/stderr.gz", "ERROR of another step\n")
    found = read_last_lines("s3://b/logs", CLUSTER, STEP, SETTINGS).splitlines()
    assert found == [
        f"--- the failing executor, containers/{application}/{failed}/stderr.gz",
        "Traceback (most recent call last):",
        "OSError: disk",
        "--- the driver, steps/s-1/stdout.gz",
        "Traceback (most recent call last):",
        "Py4JJavaError: Job aborted",
    ]


def test_a_step_that_wrote_nothing_has_no_last_lines(logs):
    assert read_last_lines("s3://b/logs", CLUSTER, STEP, SETTINGS) == ""


def test_the_bootstrap_action_that_wrote_last_is_shown(logs):
    put(logs, "node/i-1/bootstrap-actions/1/stderr.gz", "fine\n", 1)
    put(logs, "node/i-2/bootstrap-actions/2/stderr.gz", "mount: permission denied\n", 2)
    put(logs, "node/i-2/daemons/x/stderr.gz", "later\n", 3)
    found = read_bootstrap_lines("s3://b/logs", CLUSTER, SETTINGS)
    assert found == "--- node/i-2/bootstrap-actions/2/stderr.gz\nmount: permission denied"


def test_logs_are_there_once_the_controllers_last_word_is(logs):
    assert not step_output.logs_since("s3://b/logs", CLUSTER, STEP, 1_000_000.0, SETTINGS)
    put(logs, "steps/s-1/controller.gz", "INFO the step ended\n", 5)
    assert step_output.logs_since("s3://b/logs", CLUSTER, STEP, 1_000_000.0, SETTINGS)
    assert not step_output.logs_since("s3://b/logs", CLUSTER, STEP, 1_000_010.0, SETTINGS)
