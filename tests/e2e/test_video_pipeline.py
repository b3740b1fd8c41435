from __future__ import annotations

import re
import time
from pathlib import Path
from typing import get_args

import pytest

from shardmill.adapters.process import process_tree
from shardmill.laptop.demo import DAG, watch
from shardmill.specs.training import Trainer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
LISTENING = "0A"
V6_LOOPBACK = "00000000000000000000000001000000"
OF_THE_OTHER_WAY = {"create_split_cluster", "split_on_cluster"}
"""Tasks that are skipped where Airflow's workers split."""


def listeners_of(pid: int) -> set[str]:
    """Give the local addresses on which a process and its descendants listen, as /proc/net/tcp writes them."""
    sockets = set()
    for info in process_tree(pid):
        for descriptor in Path(f"/proc/{info.pid}/fd").glob("*"):
            try:
                sockets.update(re.findall(r"socket:\[(\d+)\]", str(descriptor.readlink())))
            except OSError:
                continue
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in Path(table).read_text().splitlines()[1:]:
            fields = row.split()
            if fields[3] == LISTENING and fields[9] in sockets:
                found.add(fields[1].partition(":")[0])
    return found


def is_loopback(address: str) -> bool:
    """Say whether an address of /proc/net/tcp is 127.0.0.0/8, as itself or mapped into IPv6, or ::1."""
    return (address.endswith("7F") and address[:-8] in ("", "0000000000000000FFFF0000")) or address == V6_LOOPBACK


def test_a_run_turns_shards_into_an_evaluated_model_and_leaves_no_cluster(laptop):
    laptop.api.trigger(DAG, laptop.conf(trainer="elephas", mode="asynchronous"), "green")
    addresses = set()
    state = laptop.api.run_state(DAG, "green")
    while state not in ("success", "failed"):
        addresses |= listeners_of(laptop.address.pid)
        time.sleep(1.0)
        state = laptop.api.run_state(DAG, "green")
    assert state == "success", laptop.why("green")
    assert addresses
    assert [address for address in addresses if not is_loopback(address)] == []
    states = {name: task.state for name, task in laptop.tasks("green").items()}
    assert {name for name, state in states.items() if state != "success"} == OF_THE_OTHER_WAY
    assert {states[name] for name in OF_THE_OTHER_WAY} == {"skipped"}
    names = {item.key.rpartition("/")[2] for item in laptop.lake().list("runs/video_pipeline.green")}
    assert {
        "spec.json",
        "plan.json",
        "labels.json",
        "records.json",
        "model.json",
        "metrics.json",
        "report.html",
    } <= names
    assert set(laptop.cluster_states()) == {"TERMINATED"}
    assert laptop.spark_applications(2) == {"train video_pipeline.green", "evaluate video_pipeline.green"}


def test_clearing_every_task_of_a_finished_run_repeats_nothing_and_says_so(laptop):
    if laptop.api.run_state(DAG, "green") != "success":
        pytest.fail("the run to be cleared did not succeed")
    clusters = len(laptop.cluster_states())
    before = laptop.committed()
    laptop.api.clear_run(DAG, "green")
    assert watch(laptop.api, "green") == "success"
    after = laptop.committed()
    assert after == before
    assert len(laptop.cluster_states()) == clusters
    tasks = {name: task for name, task in laptop.tasks("green").items() if name not in OF_THE_OTHER_WAY}
    assert {(task.state, task.try_number) for task in tasks.values()} == {("success", 2)}
    for task in tasks:
        if task.partition("[")[0] in (
            "ingest",
            "split",
            "features",
            "create_cluster",
            "train",
            "evaluate",
            "delete_cluster",
        ):
            assert "nothing to do" in laptop.log("green", task), task


@pytest.mark.slow
def test_a_cluster_of_its_own_splits_the_very_clips_and_is_gone_before_the_next_one_comes(laptop):
    clusters = len(laptop.cluster_states())
    # Its nodes could not read files of this machine, so the shards are copied into the lake first.
    lake = "s3://shardmill-lake/on-cluster"
    assert laptop.run("on-cluster", where="cluster", ingest="copy", lake=lake, epochs=1) == "success"
    tasks = laptop.tasks("on-cluster")
    assert {name for name, task in tasks.items() if task.state != "success"} == {"split"}
    assert tasks["split"].state == "skipped"
    assert len(laptop.cluster_states()) == clusters + 2
    assert set(laptop.cluster_states()) == {"TERMINATED"}
    made = {item.key.removeprefix("on-cluster/") for item in laptop.lake().list("on-cluster/clips")}
    parts = {key for key in made if key.endswith(".tar")}
    assert parts
    assert parts == {item.key for item in laptop.lake().list("clips/small") if item.key.endswith(".tar")}


@pytest.mark.slow
@pytest.mark.parametrize("trainer", get_args(Trainer))
def test_every_trainer_trains_on_the_same_features(laptop, trainer):
    assert laptop.run(f"by-{trainer}", trainer=trainer) == "success", laptop.why(f"by-{trainer}")
    assert {task.state for task in laptop.tasks(f"by-{trainer}").values()} == {"success", "skipped"}
    names = {item.key.rpartition("/")[2] for item in laptop.lake().list(f"runs/video_pipeline.by-{trainer}")}
    assert {"model.json", "metrics.json", "report.html"} <= names


@pytest.mark.slow
def test_a_failing_training_step_fails_the_run_with_its_cause_and_ends_the_cluster(laptop):
    laptop.api.trigger(DAG, laptop.conf(dataset="broken"), "failing")
    laptop.wait_for("failing", "select", "success")
    part = next(item.key for item in laptop.lake().list("features/broken") if item.key.endswith(".tfrecord"))
    laptop.delete_from_lake(part)
    assert watch(laptop.api, "failing") == "failed"
    tasks = laptop.tasks("failing")
    assert (tasks["train"].state, tasks["evaluate"].state) == ("failed", "upstream_failed")
    assert (tasks["delete_cluster"].state, tasks["report"].state) == ("success", "success")
    cause = f"{part} is not there"
    assert cause in laptop.log("failing", "train")
    assert cause in laptop.lake().get("runs/video_pipeline.failing/report.html").decode()
    assert set(laptop.cluster_states()) <= {"TERMINATED", "TERMINATED_WITH_ERRORS"}


@pytest.mark.slow
def test_a_missing_image_is_named_before_anything_is_made(laptop):
    clusters = len(laptop.cluster_states())
    assert laptop.run("no-image", image_id="ami-0123456789abcdef0") == "failed"
    tasks = laptop.tasks("no-image")
    assert tasks["budget"].state == "failed"
    assert tasks["budget"].try_number == 1, "a missing image is not worth another try"
    assert "ami-0123456789abcdef0" in laptop.log("no-image", "budget")
    assert (tasks["delete_cluster"].state, tasks["report"].state) == ("success", "success")
    assert len(laptop.cluster_states()) == clusters
    assert b"ami-0123456789abcdef0" in laptop.lake().get("runs/video_pipeline.no-image/report.html")


@pytest.mark.slow
def test_a_dry_run_says_what_the_run_may_cost_and_begins_nothing(laptop):
    clusters = len(laptop.cluster_states())
    assert laptop.run("dry", dry_run=True) == "success"
    tasks = laptop.tasks("dry")
    done = {name for name, task in tasks.items() if task.state == "success"}
    assert done == {"plan", "budget", "hand_out", "report", "delete_cluster", "delete_split_cluster"}
    assert {task.state for name, task in tasks.items() if name not in done} == {"skipped"}
    assert re.search(r"1 cluster, \d+\.\d\d to \d+\.\d\d USD; dry_run: nothing is begun", laptop.log("dry", "budget"))
    assert len(laptop.cluster_states()) == clusters


@pytest.mark.slow
def test_a_cluster_whose_setup_was_marked_failed_is_ended_all_the_same(laptop):
    laptop.api.trigger(DAG, laptop.conf(seed=3), "marked")
    laptop.wait_for("marked", "create_cluster", "deferred")
    laptop.api.set_task_state(DAG, "marked", "create_cluster", "failed")
    assert watch(laptop.api, "marked") == "failed"
    assert laptop.tasks("marked")["delete_cluster"].state == "success"
    assert set(laptop.cluster_states()) <= {"TERMINATED", "TERMINATED_WITH_ERRORS"}


@pytest.mark.slow
def test_a_step_that_outlives_the_deadline_is_cancelled_and_its_cluster_ended(laptop):
    assert laptop.run("late", epochs=1000, max_hours=0.01) == "failed"
    tasks = laptop.tasks("late")
    assert (tasks["train"].state, tasks["train"].try_number) == ("failed", 1)
    assert "was cancelled at the deadline" in laptop.log("late", "train")
    assert (tasks["delete_cluster"].state, tasks["report"].state) == ("success", "success")
    assert set(laptop.cluster_states()) <= {"TERMINATED", "TERMINATED_WITH_ERRORS"}
