"""The operators in a real Airflow before a local EMR without Spark: what only scheduler and triggerer together show."""

from __future__ import annotations

import gzip
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kills.airflow_lab import DAG, NO_SPARK, AirflowLab, airflow_lab

from shardmill.localcloud.faults import set_faults
from shardmill.localcloud.seed import client

CLUSTER_PYTHON = Path(sys.prefix).parent / "cluster" / "bin" / "python"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CLUSTER_PYTHON.exists(), reason=f"no cluster environment: {CLUSTER_PYTHON} is not there"),
    pytest.mark.timeout(3600),
]
RACES = int(os.environ.get("SHARDMILL_RACES", "50"))
AT_ONCE = 5
"""More than a scheduler on two busy cores keeps up with need a second try now and then (docs/decisions.md)."""
PATIENCE_SECONDS = 240.0


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowLab]:
    with airflow_lab(tmp_path_factory.mktemp("operators") / "state") as lab:
        yield lab


@pytest.fixture
def lab(started: AirflowLab) -> AirflowLab:
    steps_of(started, 60.0)
    return started


def steps_of(lab: AirflowLab, seconds: float) -> None:
    """Have steps take so long from now on."""
    set_faults(lab.cloud.endpoint, [{**NO_SPARK, "seconds": seconds, "bootstrap": False}])


def wait_for(look: Callable[[], Any], what: str) -> Any:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not (found := look()):
        assert time.monotonic() < give_up, f"waited {PATIENCE_SECONDS} s for {what}"
        time.sleep(0.5)
    return found


def state(lab: AirflowLab, run: str, task: str = "train") -> str:
    return next((one.state for one in lab.api.task_states(DAG, run) if one.task == task), "none")


def tries(lab: AirflowLab, run: str) -> dict[str, int]:
    return {one.task: one.try_number for one in lab.api.task_states(DAG, run)}


def clear(lab: AirflowLab, run: str, task: str) -> None:
    body = {"dry_run": False, "dag_run_id": run, "task_ids": [task], "only_failed": False, "include_downstream": False}
    lab.api._send("POST", f"/api/v2/dags/{DAG}/clearTaskInstances", body)


def step(lab: AirflowLab, run: str) -> tuple[str, list[tuple[str, str]]]:
    """Give the run's cluster, and id and state of each of its steps, the oldest first."""
    clusters = lab.emr.list_clusters()["Clusters"]
    (cluster,) = [one["Id"] for one in clusters if one["Name"].startswith(f"shardmill-{run}-")]
    found = lab.emr.list_steps(ClusterId=cluster)["Steps"]
    return cluster, [(one["Id"], one["Status"]["State"]) for one in found][::-1]


def begin_and_wait(lab: AirflowLab, run: str) -> tuple[str, str]:
    """Begin a run and wait until its step runs and its task has deferred; give cluster and step."""
    lab.begin(run)
    wait_for(lambda: state(lab, run) == "deferred", f"{run} to wait for its step")
    cluster, ((step_id, _),) = step(lab, run)
    wait_for(lambda: step(lab, run)[1][0][1] == "RUNNING", f"{step_id} to run")
    # Before the triggerer has taken the wait up, Airflow has nobody to tell that a person ended it.
    wait_for(lambda: f"trigger {DAG}/{run}/train" in lab.log(run, "train"), "the triggerer to take up the wait")
    return cluster, step_id


def test_a_cluster_that_is_up_within_a_second_fails_no_task(lab):
    """The deferral race: an event that comes before the scheduler has filed the deferral away fails a good task."""
    steps_of(lab, 0.0)
    runs = [f"race-{number}" for number in range(RACES)]
    for start in range(0, RACES, AT_ONCE):
        wave = runs[start : start + AT_ONCE]
        for run in wave:
            lab.begin(run)
        assert {lab.wait(run, 600) for run in wave} == {"success"}
    assert {count for run in runs for count in tries(lab, run).values()} == {1}


def test_the_steps_output_is_in_the_tasks_log_while_it_runs_and_the_links_are_there(lab):
    cluster, step_id = begin_and_wait(lab, "output")
    time.sleep(6.0)  # the local EMR has sent the empty output by now, and does not again
    key = f"kills/runs/output/logs/{cluster}/steps/{step_id}/stdout.gz"
    client("s3", lab.cloud.endpoint).put_object(
        Bucket="shardmill-lake", Key=key, Body=gzip.compress(b"epoch 1: loss 0.25\n")
    )
    wait_for(lambda: "epoch 1: loss 0.25" in lab.log("output", "train"), "the output in the task's log")
    assert state(lab, "output") == "deferred"
    links = lab.api._send("GET", f"/api/v2/dags/{DAG}/dagRuns/output/taskInstances/train/links")["extra_links"]
    assert links["Cluster logs"] == f"{lab.cloud.endpoint}/shardmill-lake?prefix=kills/runs/output/logs/{cluster}/"
    assert set(links) == {"EMR cluster", "Cluster logs", "Spark history"}
    assert lab.wait("output") == "success"


def test_a_task_that_is_marked_failed_while_it_waits_cancels_its_step_and_the_cluster_ends(lab):
    _, step_id = begin_and_wait(lab, "marked")
    lab.api.set_task_state(DAG, "marked", "train", "failed")
    wait_for(lambda: f"cancelling step {step_id}" in lab.log("marked", "train"), "the step to be cancelled")
    lab.wait("marked")
    assert [states for name, states in lab.clusters().items() if "-marked-" in name] == [["TERMINATED"]]
    assert step(lab, "marked")[1][0][1] in ("CANCELLED", "INTERRUPTED")  # the teardown begins at the same moment
    assert lab.steps_done("marked") == []


def test_a_task_that_is_cleared_while_it_waits_joins_its_step(lab):
    _, step_id = begin_and_wait(lab, "cleared")
    clear(lab, "cleared", "train")
    wait_for(lambda: tries(lab, "cleared")["train"] == 2 and state(lab, "cleared") == "deferred", "the second try")
    assert step(lab, "cleared")[1] == [(step_id, "RUNNING")]
    assert lab.wait("cleared") == "success"
    assert lab.steps_done("cleared") == [step_id]


def test_a_triggerer_that_is_stopped_and_started_cancels_nothing(lab):
    _, step_id = begin_and_wait(lab, "restarted")
    lab.running["triggerer"].terminate()
    lab.running["triggerer"].wait(60)
    assert lab.wait("restarted") == "success"  # it starts again what ended
    assert step(lab, "restarted")[1] == [(step_id, "COMPLETED")]
    assert tries(lab, "restarted")["train"] == 1
