"""The DAG that trains on records, on the whole stack."""

from __future__ import annotations

import time

import pytest

from shardmill.laptop.rest import ENDED

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1800)]
DAG = "train_on_records"
PATIENCE_SECONDS = 1500
FEW = {"epochs": 1}


class RecordRuns:
    """Runs of the DAG on a running stack."""

    def __init__(self, laptop) -> None:
        self.laptop, self.api = laptop, laptop.api

    def run(self, run_id: str, **conf) -> str:
        """Trigger a run, wait for its end, give its state."""
        self.api.trigger(DAG, conf, run_id)
        return self.wait(run_id)

    def wait(self, run_id: str) -> str:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while (state := self.api.run_state(DAG, run_id)) not in ENDED:
            assert time.monotonic() < give_up, self.tasks(run_id)
            time.sleep(0.5)
        return state

    def tasks(self, run_id: str):
        return {task.name: task for task in self.api.task_states(DAG, run_id)}

    def log(self, run_id: str, task: str) -> str:
        return "\n".join(self.api.log_lines(DAG, run_id, self.tasks(run_id)[task]))

    def logs(self, run_id: str) -> str:
        """Give what the tasks say that failed."""
        return "\n".join(self.log(run_id, name) for name, task in self.tasks(run_id).items() if task.state == "failed")


def test_the_form_as_it_stands_trains_on_the_sample_and_leaves_no_cluster(laptop):
    runs, clusters = RecordRuns(laptop), len(laptop.cluster_states())
    assert runs.run("green", **FEW) == "success", runs.logs("green")
    assert {task.state for task in runs.tasks("green").values()} == {"success"}
    lake = laptop.lake()
    names = {item.key.rpartition("/")[2] for item in lake.list("runs/train_on_records.green")}
    assert {"spec.json", "files.json", "found.json", "records.json", "model.json", "metrics.json"} <= names
    assert b"Files and records that could not be used" in lake.get("runs/train_on_records.green/report.html")
    assert len(laptop.cluster_states()) == clusters + 1
    assert set(laptop.cluster_states()) == {"TERMINATED"}


def test_a_second_run_counts_no_file_again_and_a_cleared_one_repeats_nothing(laptop):
    runs = RecordRuns(laptop)
    assert runs.run("again", epochs=1, ingest="reference") == "success", runs.logs("again")
    tasks = runs.tasks("again")
    assert tasks["fetch"].state == "skipped"
    assert {task.state for name, task in tasks.items() if name != "fetch"} == {"success"}
    before = laptop.committed()
    clusters = len(laptop.cluster_states())
    laptop.api.clear_run(DAG, "again")
    assert runs.wait("again") == "success"
    after = laptop.committed()
    assert after == before
    assert len(laptop.cluster_states()) == clusters


def test_a_validation_split_that_cannot_be_used_stops_the_run_before_a_cluster_exists(laptop):
    runs, clusters = RecordRuns(laptop), len(laptop.cluster_states())
    assert runs.run("bad", validation_source="s3://shardmill-source/nothing") == "failed"
    assert "validation_source: 0 files found" in runs.log("bad", "plan")
    assert runs.tasks("bad")["plan"].try_number == 1
    assert len(laptop.cluster_states()) == clusters


def test_a_mirror_that_the_installation_does_not_allow_is_refused(laptop):
    runs = RecordRuns(laptop)
    assert runs.run("mirror", origin="mirror") == "failed"
    assert "ask its operator to add it to SHARDMILL_SOURCE_ROOTS" in runs.log("mirror", "plan")
