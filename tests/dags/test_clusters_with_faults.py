"""Each fault of EMR that can be had on request: the right end, the right message, and afterwards no cluster alive."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dags.operator_lab import DAG_RUN, RESULT, Lab, Ran, Ti, airflow_for, run_task

from shardmill.localcloud.launch import local_cloud

CLUSTER_PYTHON = Path(sys.prefix).parent / "cluster" / "bin" / "python"
pytestmark = [
    pytest.mark.skipif(not CLUSTER_PYTHON.exists(), reason=f"no cluster environment: {CLUSTER_PYTHON} is not there"),
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    patch = pytest.MonkeyPatch()
    with (
        local_cloud(tmp_path_factory.mktemp("cloud")) as cloud,
        airflow_for(cloud, tmp_path_factory.mktemp("airflow"), patch),
    ):
        yield Lab(cloud)
    patch.undo()


@pytest.fixture
def lab(started: Lab) -> Iterator[Lab]:
    started.faults()
    yield started
    # Whatever the fault was and however the test ended: the teardown of each run left nothing.
    assert started.alive() == []


def create(spec_uri: str, **more):
    from shardmill_airflow.operators import CreateCluster

    return CreateCluster(task_id="create_cluster", spec_uri=spec_uri, **more)


def train(spec_uri: str, **more):
    from shardmill_airflow.operators import RunJob

    return RunJob(task_id="train", job="train", result=RESULT, spec_uri=spec_uri, **more)


def tear_down(spec_uri: str) -> Ran:
    from shardmill_airflow.operators import DeleteCluster

    ran = run_task(DeleteCluster(task_id="delete_cluster", spec_uri=spec_uri))
    assert ran.state == "success"
    return ran


def whole_run(lab: Lab, spec_uri: str) -> list[Ran]:
    """Run the tasks as the DAG does: what comes behind a failed one is left out, but the teardown is not."""
    ran = []
    for operator in (create(spec_uri), train(spec_uri)):
        ran.append(run_task(operator))
        if ran[-1].state == "failed":
            break
    return [*ran, tear_down(spec_uri)]


def test_without_a_fault_a_run_has_one_cluster_one_step_and_one_result(lab):
    created, trained, ended = whole_run(lab, lab.begin("calm"))
    (cluster,) = lab.ever("calm")
    assert created.line == f"{cluster} is up"
    assert trained.line == "train completed"
    assert ended.line == f"ended {cluster}"
    assert [state for _, state in lab.steps(cluster)] == ["COMPLETED"]
    assert lab.results("calm") == 1


def test_ids_are_recorded_before_anything_waits(lab):
    created, trained, _ = whole_run(lab, lab.begin("noted"))
    assert created.ti.history.index("cluster_id") < created.ti.history.index("deferred to come_up")
    assert trained.ti.history.index("step_id") < trained.ti.history.index("deferred to end")
    (cluster,) = lab.ever("noted")
    assert created.ti.xcoms["cluster_id"] == trained.ti.xcoms["cluster_id"] == cluster
    assert trained.ti.xcoms["step_id"] == lab.steps(cluster)[0][0]
    assert created.ti.xcoms["emr"]["endpoint"] == lab.cloud.endpoint


def test_missing_capacity_is_waited_out_with_growing_pauses(lab):
    lab.faults({"kind": "capacity", "times": 2})
    created, trained, _ = whole_run(lab, lab.begin("capacity"))
    assert (created.state, trained.state) == ("success", "success")
    assert [str(error).splitlines()[1] for error in created.errors] == [
        "Most likely: EC2 has no free nodes of this type in the zone."
    ] * 2
    assert [delay.total_seconds() for delay in created.delays] == [30, 60]
    assert len(lab.ever("capacity")) == 3


def test_capacity_that_stays_missing_fails_with_the_advice(lab):
    lab.faults({"kind": "capacity", "times": 99})
    spec_uri = lab.begin("no-capacity")
    created = run_task(create(spec_uri, retries=2))
    assert created.state == "failed"
    assert len(created.errors) == 3
    assert "What to do: wait, or ask for another instance type" in created.message
    tear_down(spec_uri)


def test_a_bootstrap_action_that_fails_is_not_tried_again(lab):
    lab.faults({"kind": "bootstrap", "text": "mount: permission denied"})
    created, ended = whole_run(lab, lab.begin("bootstrap"))
    assert created.state == "failed"
    assert len(created.errors) == 1
    assert re.search(r"(?s)BOOTSTRAP_FAILURE.*bootstrap action.*Most likely: a bootstrap action ended", created.message)
    assert "mend the script" in created.message
    (cluster,) = lab.ever("bootstrap")
    # EMR ends it by itself: the teardown finds it on its way, or gone.
    assert ended.line in (f"ended {cluster}", "nothing to do: no cluster of this run is alive")
    assert lab.alive("bootstrap") == []


def test_throttling_for_a_while_fails_nothing(lab):
    lab.faults({"kind": "throttle", "seconds": 3})
    created, trained, _ = whole_run(lab, lab.begin("throttled"))
    assert (created.state, trained.state) == ("success", "success")
    assert len(lab.ever("throttled")) == 1


def test_throttled_writes_are_sent_again_for_they_made_nothing(lab):
    lab.faults({"kind": "throttle", "operations": ["RunJobFlow", "AddJobFlowSteps"], "times": 3})
    created, trained, _ = whole_run(lab, lab.begin("throttled-writes"))
    assert (created.state, trained.state) == ("success", "success")
    (cluster,) = lab.ever("throttled-writes")
    assert len(lab.steps(cluster)) == 1


def test_a_lost_answer_to_run_job_flow_makes_no_second_cluster(lab):
    lab.faults({"kind": "lost_answer", "operations": ["RunJobFlow"]})
    created, trained, _ = whole_run(lab, lab.begin("lost-cluster"))
    assert (created.state, trained.state, created.errors) == ("success", "success", [])
    assert len(lab.ever("lost-cluster")) == 1


def test_a_lost_answer_to_add_job_flow_steps_adds_no_second_step(lab):
    lab.faults({"kind": "lost_answer", "operations": ["AddJobFlowSteps"]})
    _, trained, _ = whole_run(lab, lab.begin("lost-step"))
    assert (trained.state, trained.errors) == ("success", [])
    (cluster,) = lab.ever("lost-step")
    assert [state for _, state in lab.steps(cluster)] == ["COMPLETED"]
    assert lab.results("lost-step") == 1


def test_a_lost_node_is_replaced_and_the_run_goes_on(lab):
    lab.faults({"kind": "node_lost"})
    created, trained, _ = whole_run(lab, lab.begin("node"))
    assert (created.state, trained.state) == ("success", "success")
    assert len(lab.ever("node")) == 1


def test_a_cluster_that_dies_while_a_step_runs_is_made_again_until_the_same_deadline(lab):
    from shardmill.adapters.emr import describe_life

    lab.faults({"kind": "node_lost", "all": True, "during_step": True}, seconds=1.0)
    created, trained, ended = whole_run(lab, lab.begin("died"))
    assert (created.state, trained.state, len(trained.errors)) == ("success", "success", 1)
    assert "nodes that the cluster cannot do without were lost" in str(trained.errors[0])
    first, second = lab.ever("died")
    assert [describe_life(lab.emr, one).state for one in (first, second)] == ["TERMINATED_WITH_ERRORS", "TERMINATED"]
    assert describe_life(lab.emr, first).deadline == describe_life(lab.emr, second).deadline
    assert trained.ti.xcoms["cluster_id"] == second
    assert ended.line == f"ended {second}"
    assert lab.results("died") == 1


def test_clusters_that_die_one_behind_the_other_are_not_made_for_ever(lab):
    lab.faults({"kind": "node_lost", "all": True, "during_step": True, "times": 99}, seconds=1.0)
    _, trained, _ = whole_run(lab, lab.begin("dying"))
    assert trained.state == "failed"
    assert "as 3 clusters did: no other is made" in trained.message
    assert len(lab.ever("dying")) == 3


def test_a_cluster_that_someone_ended_stays_ended_and_the_message_says_so(lab):
    lab.faults({"kind": "terminated", "during_step": True}, seconds=5.0)
    _, trained, _ = whole_run(lab, lab.begin("terminated"))
    assert (trained.state, len(trained.errors)) == ("failed", 1)
    assert "someone, or a tool outside of this run, ended the cluster" in trained.message
    assert len(lab.ever("terminated")) == 1


@pytest.mark.parametrize(
    ("status", "cause", "tries"),
    [
        (137, "took more memory than it has", 2),
        (143, "asked to end (SIGTERM)", 3),
        (1, "read the last lines below", 2),
        (124, "the deadline: the step was still at work", 1),
    ],
)
def test_a_failed_step_says_why_and_is_tried_as_often_as_makes_sense(lab, status, cause, tries):
    fault = {"kind": "step_failure", "status": status, "text": "the last words", "times": 2 if status == 143 else 99}
    lab.faults(fault)
    run = f"step-{status}"
    _, trained, _ = whole_run(lab, lab.begin(run))
    (cluster,) = lab.ever(run)
    assert len(lab.steps(cluster)) == tries
    told = str(trained.errors[-1])
    assert cause in told
    assert "the driver, steps/" in told
    assert "the last words" in told
    assert trained.state == ("success" if status == 143 else "failed")


def test_a_step_that_is_added_while_its_cluster_dies_is_tried_on_another(lab, monkeypatch):
    from shardmill.adapters import emr as clusters

    spec_uri = lab.begin("dying-now")
    run_task(create(spec_uri))
    ensure = clusters.ensure_step

    def too_late(emr, once, cluster_id, step):
        monkeypatch.setattr(clusters, "ensure_step", ensure)
        lab.faults({"kind": "node_lost", "all": True})
        while lab.alive("dying-now"):
            time.sleep(0.1)
        return ensure(emr, once, cluster_id, step)

    monkeypatch.setattr(clusters, "ensure_step", too_late)
    trained = run_task(train(spec_uri))
    assert (trained.state, len(trained.errors)) == ("success", 1)
    assert "INSTANCE_FAILURE" in str(trained.errors[0])
    assert len(lab.ever("dying-now")) == 2
    tear_down(spec_uri)


def test_a_step_that_hangs_is_cancelled_at_the_deadline(lab, monkeypatch):
    from shardmill_airflow import step_tasks

    lab.faults({"kind": "step_hang"})
    spec_uri = lab.begin("hang", max_hours=0.1)
    created = run_task(create(spec_uri))
    # The step's own time-out comes a minute before the deadline: here it is late, and the wait's own end counts.
    deferred = step_tasks.EmrWait

    def soon(*arguments, **named):
        return deferred(*arguments, **(named | {"give_up": time.time() + 1.0}))

    monkeypatch.setattr(step_tasks, "EmrWait", soon)
    trained = run_task(train(spec_uri))
    assert (created.state, trained.state, len(trained.errors)) == ("success", "failed", 1)
    assert re.search(r"max_hours: step s-\w+ \(train\) was cancelled at the deadline", trained.message)
    tear_down(spec_uri)
    (cluster,) = lab.ever("hang")
    assert lab.steps(cluster)[0][1] == "CANCELLED"


def test_a_second_cluster_that_turns_up_late_is_ended_and_told_in_the_summary(lab):
    lab.faults({"kind": "slow_start", "seconds": 3.0})
    spec_uri = lab.begin("late")
    ran: list[Ran] = []
    waiting = threading.Thread(target=lambda: ran.append(run_task(create(spec_uri))))
    waiting.start()
    while not lab.ever("late"):
        time.sleep(0.05)
    (first,) = lab.ever("late")
    asked = lab.emr.describe_cluster(ClusterId=first)["Cluster"]
    again = _request_like(asked)
    late = lab.emr.run_job_flow(**again)["JobFlowId"]
    waiting.join(60)
    assert ran[0].line == f"{first} is up; ended as made a second time: {late}"
    assert lab.alive("late") == [first]
    tear_down(spec_uri)


def _request_like(cluster: dict) -> dict:
    return {
        "Name": cluster["Name"],
        "ReleaseLabel": cluster["ReleaseLabel"],
        "ServiceRole": cluster["ServiceRole"],
        "JobFlowRole": "EMR_EC2_DefaultRole",
        "Instances": {
            "InstanceGroups": [{"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1}],
            "KeepJobFlowAliveWhenNoSteps": True,
        },
        "Tags": cluster["Tags"],
    }


def test_a_second_cluster_beside_the_one_that_works_is_ended_before_the_step_is_added(lab):
    spec_uri = lab.begin("beside")
    run_task(create(spec_uri))
    (first,) = lab.alive("beside")
    late = lab.emr.run_job_flow(**_request_like(lab.emr.describe_cluster(ClusterId=first)["Cluster"]))["JobFlowId"]
    trained = run_task(train(spec_uri))
    assert trained.line == f"train completed; ended as made a second time: {late}"
    assert trained.ti.xcoms["cluster_id"] == first
    tear_down(spec_uri)


def test_a_retried_create_joins_the_cluster_and_a_cleared_step_joins_the_step(lab):
    lab.faults(seconds=4.0)
    spec_uri = lab.begin("join")
    for _ in range(2):
        assert run_task(create(spec_uri)).state == "success"
    (cluster,) = lab.ever("join")
    first = threading.Thread(target=lambda: run_task(train(spec_uri)))
    first.start()
    while not lab.steps(cluster):
        time.sleep(0.05)
    again = run_task(train(spec_uri))
    first.join(60)
    assert again.state == "success"
    assert [state for _, state in lab.steps(cluster)] == ["COMPLETED"]
    assert lab.results("join") == 1
    tear_down(spec_uri)


def test_a_retried_create_keeps_the_deadline_and_a_cleared_one_gets_its_full_time(lab):
    from shardmill.adapters.emr import describe_life

    spec_uri = lab.begin("deadline")
    operator = create(spec_uri)
    run_task(operator)
    lab.faults({"kind": "node_lost", "all": True})
    while lab.alive("deadline"):
        time.sleep(0.1)
    time.sleep(1.1)  # deadlines are told in whole seconds
    run_task(operator, Ti(operator, try_number=2, max_tries=operator.retries))
    tear_down(spec_uri)
    run_task(operator, Ti(operator, try_number=3, max_tries=operator.retries + 2))
    tear_down(spec_uri)
    deadlines = [describe_life(lab.emr, one).deadline for one in lab.ever("deadline")]
    assert deadlines[0] == deadlines[1] < deadlines[2]


def test_a_second_try_behind_a_clearing_takes_no_deadline_from_before_it(lab):
    from shardmill.adapters.emr import describe_life

    spec_uri = lab.begin("cleared")
    operator = create(spec_uri)
    run_task(operator)
    tear_down(spec_uri)
    time.sleep(1.1)  # deadlines are told in whole seconds
    # Cleared behind its first try; the next one failed before it had made a cluster.
    run_task(operator, Ti(operator, try_number=3, max_tries=operator.retries + 1))
    lab.faults({"kind": "node_lost", "all": True})
    while lab.alive("cleared"):
        time.sleep(0.1)
    time.sleep(1.1)
    run_task(operator, Ti(operator, try_number=4, max_tries=operator.retries + 1))
    tear_down(spec_uri)
    deadlines = [describe_life(lab.emr, one).deadline for one in lab.ever("cleared")]
    assert deadlines[0] < deadlines[1] == deadlines[2]


def test_a_cluster_in_place_of_a_lost_one_is_of_the_same_clearing(lab):
    from shardmill.adapters.emr import describe_life

    spec_uri = lab.begin("in-place")
    operator = create(spec_uri)
    run_task(operator, Ti(operator, try_number=5, max_tries=operator.retries + 4))
    lab.faults({"kind": "node_lost", "all": True})
    while lab.alive("in-place"):
        time.sleep(0.1)
    assert run_task(train(spec_uri)).state == "success"
    assert [describe_life(lab.emr, one).cleared_after for one in lab.ever("in-place")] == [4, 4]
    tear_down(spec_uri)


def test_the_teardown_waits_only_where_a_cluster_was_asked_for_just_now_or_nobody_can_tell(lab, monkeypatch):
    from shardmill.adapters.store import Store, StoreError
    from shardmill_airflow import cluster_tasks

    def waits(spec_uri: str) -> bool:
        ran = tear_down(spec_uri)
        assert ran.line == "nothing to do: no cluster of this run is alive"
        return "deferred to look_again" in ran.ti.history

    spec_uri = lab.begin("settle")
    assert not waits(spec_uri)
    # Its sender was killed between the note and the request, or behind the request.
    lab.lake.put("runs/settle/asked/train", b"")
    assert waits(spec_uri)
    monkeypatch.setattr(cluster_tasks, "CLOCKS_APART", -60.0)
    assert not waits(spec_uri)
    monkeypatch.undo()

    def unreachable(*_):
        raise StoreError("no answer")

    monkeypatch.setattr(Store, "head", unreachable)
    assert waits(spec_uri)


def test_the_teardown_ends_what_has_the_runs_tags_whatever_its_name_is(lab):
    spec_uri = lab.begin("tagged")
    run_task(create(spec_uri))
    (first,) = lab.alive("tagged")
    request = _request_like(lab.emr.describe_cluster(ClusterId=first)["Cluster"]) | {"Name": "shardmill-renamed"}
    other = lab.emr.run_job_flow(**request)["JobFlowId"]
    assert sorted(tear_down(spec_uri).line.removeprefix("ended ").split(", ")) == sorted([first, other])


def test_a_killed_task_ends_what_it_made_even_when_the_signal_came_before_the_answer(lab, monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    from shardmill.adapters import emr as clusters

    spec_uri = lab.begin("killed")
    operator = create(spec_uri)
    ensure = clusters.ensure_cluster

    def signalled(*arguments):
        operator.on_kill()
        return ensure(*arguments)

    monkeypatch.setattr(clusters, "ensure_cluster", signalled)
    with pytest.raises(AirflowFailException, match="killed"):
        operator.execute(context={"ti": Ti(operator, max_tries=6), "dag_run": DAG_RUN})
    while lab.alive("killed"):
        time.sleep(0.1)


def test_a_signal_behind_the_deferral_ends_nothing(lab):
    from airflow.sdk.exceptions import TaskDeferred

    spec_uri = lab.begin("late-signal")
    operator = create(spec_uri)
    with pytest.raises(TaskDeferred):
        operator.execute(context={"ti": Ti(operator, max_tries=6), "dag_run": DAG_RUN})
    operator.on_kill()
    time.sleep(0.3)
    assert len(lab.alive("late-signal")) == 1
    tear_down(spec_uri)
