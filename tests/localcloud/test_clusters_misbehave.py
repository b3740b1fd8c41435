"""Faults against the real agent: clusters without Spark, so that each takes a second."""

from __future__ import annotations

import gzip
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cloud_processes import processes_of

from shardmill.adapters.sandbox import SandboxError, find_sandbox
from shardmill.core.emr_request import cluster_request, spark_step
from shardmill.localcloud.faults import clear_faults, list_faults, set_faults
from shardmill.localcloud.launch import LocalCloud, local_cloud
from shardmill.localcloud.seed import client
from shardmill.specs.cluster import ClusterSpec

T = TypeVar("T")
CLUSTER_PYTHON = Path(sys.prefix).parent / "cluster" / "bin" / "python"
pytestmark = [
    pytest.mark.skipif(not CLUSTER_PYTHON.exists(), reason=f"no cluster environment: {CLUSTER_PYTHON} is not there"),
    pytest.mark.timeout(120),
]
CODE = ("s3://shardmill-lake/code/package.zip", "s3://shardmill-lake/code/job.py")
NO_SPARK = {"kind": "no_spark", "seconds": 0.3}
TOP = "s3://shardmill-lake/runs/r"


def has_namespaces() -> bool:
    try:
        return find_sandbox().kind != "none"
    except SandboxError:
        return False


in_namespaces = pytest.mark.skipif(not has_namespaces(), reason="this system gives no namespaces")


class Account:
    """The clients of one local AWS, and small requests."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        self.s3, self.emr, self.ec2 = (client(name, cloud.endpoint) for name in ("s3", "emr", "ec2"))

    def faults(self, *faults: dict[str, Any], **no_spark: Any) -> None:
        set_faults(self.cloud.endpoint, [*faults, {**NO_SPARK, **no_spark}])

    def run_cluster(self, **changes: Any) -> str:
        images = self.ec2.describe_images(Owners=["self"])["Images"]
        spec = ClusterSpec(
            name="c",
            run="r",
            image_id=images[0]["ImageId"],
            log_uri="s3://shardmill-logs/emr",
            deadline="2026-11-21T00:00:00+00:00",
        )
        request = {**cluster_request(spec), "BootstrapActions": [], **changes}
        found: str = self.emr.run_job_flow(**request)["JobFlowId"]
        return found

    def wait(self, cluster_id: str, *states: str, seconds: float = 60.0) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            status: dict[str, Any] = self.emr.describe_cluster(ClusterId=cluster_id)["Cluster"]["Status"]
            return status if status["State"] in states else None

        return wait_for(look, f"{cluster_id} to be {states}", seconds)

    def end(self, cluster_id: str) -> tuple[str, str, str]:
        status = self.wait(cluster_id, "TERMINATED", "TERMINATED_WITH_ERRORS")
        reason = status["StateChangeReason"]
        return status["State"], reason["Code"], reason["Message"]

    def add(self, cluster_id: str, step: dict[str, Any]) -> str:
        found: str = self.emr.add_job_flow_steps(JobFlowId=cluster_id, Steps=[step])["StepIds"][0]
        return found

    def wait_step(self, cluster_id: str, step_id: str, *states: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            status: dict[str, Any] = self.emr.describe_step(ClusterId=cluster_id, StepId=step_id)["Step"]["Status"]
            return status if status["State"] in states else None

        return wait_for(look, f"{step_id} to be {states}")

    def log(self, key: str) -> str:
        return gzip.decompress(self.s3.get_object(Bucket="shardmill-logs", Key=key)["Body"].read()).decode()

    def script(self, name: str, text: str) -> dict[str, Any]:
        self.s3.put_object(Bucket="shardmill-lake", Key=f"scripts/{name}", Body=text.encode())
        return {"Name": name, "ScriptBootstrapAction": {"Path": f"s3://shardmill-lake/scripts/{name}", "Args": []}}


def wait_for(look: Callable[[], T | None], what: str, seconds: float = 60.0) -> T:
    deadline = time.monotonic() + seconds
    while (found := look()) is None:
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)
    return found


def train(name: str = "train r", *, under: tuple[str, ...] = ()) -> dict[str, Any]:
    step = spark_step(name, code=CODE, arguments=("train", f"{TOP}/spec.json"), workers=2)
    step["HadoopJarStep"]["Args"] = [*under, *step["HadoopJarStep"]["Args"]]
    return step


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    with local_cloud(tmp_path_factory.mktemp("cloud") / "state") as running:
        yield running


@pytest.fixture
def account(cloud: LocalCloud) -> Iterator[Account]:
    """An account without faults but that there is no Spark; what a test leaves alive is ended."""
    account = Account(cloud)
    account.faults()
    yield account
    clear_faults(cloud.endpoint)
    alive = [
        one["Id"]
        for one in account.emr.list_clusters(ClusterStates=["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING"])[
            "Clusters"
        ]
    ]
    if alive:
        account.emr.terminate_job_flows(JobFlowIds=alive)
    for cluster_id in alive:
        account.wait(cluster_id, "TERMINATED", "TERMINATED_WITH_ERRORS")


def test_a_cluster_without_spark_is_up_at_once_and_its_steps_leave_what_they_were_told(
    account: Account,
) -> None:
    account.faults(writes={"{folder}/by/{step}.txt": "{name} on {cluster}"})
    cluster_id = account.run_cluster()
    times = account.wait(cluster_id, "WAITING")["Timeline"]
    assert (times["ReadyDateTime"] - times["CreationDateTime"]).total_seconds() < 5
    step_id = account.add(cluster_id, train())
    assert account.wait_step(cluster_id, step_id, "COMPLETED", "FAILED")["State"] == "COMPLETED"
    written = account.s3.get_object(Bucket="shardmill-lake", Key=f"runs/r/by/{step_id}.txt")["Body"].read().decode()
    assert written == f"train r on {cluster_id}"
    account.emr.terminate_job_flows(JobFlowIds=[cluster_id])
    assert account.end(cluster_id)[:2] == ("TERMINATED", "USER_REQUEST")
    assert processes_of(account.cloud) == {}


def test_a_cluster_for_which_ec2_has_no_capacity_ends_with_errors_and_the_next_one_comes_up(account: Account) -> None:
    account.faults({"kind": "capacity", "times": 1})
    first = account.run_cluster()
    state, code, message = account.end(first)
    assert (state, code) == ("TERMINATED_WITH_ERRORS", "INTERNAL_ERROR")
    assert "EC2 is out of capacity for g4dn.xlarge in availability zone us-east-1a" in message
    (details,) = account.emr.describe_cluster(ClusterId=first)["Cluster"]["Status"]["ErrorDetails"]
    assert details["ErrorCode"] == "INTERNAL_ERROR_EC2_INSUFFICIENT_CAPACITY_AZ"
    assert account.wait(account.run_cluster(), "WAITING")


def test_a_slow_start_holds_a_cluster_up(account: Account) -> None:
    account.faults({"kind": "slow_start", "seconds": 2})
    cluster_id = account.run_cluster()
    assert account.emr.describe_cluster(ClusterId=cluster_id)["Cluster"]["Status"]["State"] == "STARTING"
    times = account.wait(cluster_id, "WAITING")["Timeline"]
    assert (times["ReadyDateTime"] - times["CreationDateTime"]).total_seconds() >= 2


def test_a_bootstrap_failure_is_told_in_emrs_words(account: Account) -> None:
    account.faults({"kind": "bootstrap", "text": "No package matches libcudnn9"})
    state, code, message = account.end(account.run_cluster())
    assert (state, code) == ("TERMINATED_WITH_ERRORS", "BOOTSTRAP_FAILURE")
    assert "bootstrap action 1 returned a non-zero return code: No package matches libcudnn9" in message


@pytest.mark.parametrize("status", [1, 137, 143])
def test_a_step_that_is_made_to_fail_ends_with_the_status_and_its_log(account: Account, status: int) -> None:
    text = "Container killed by YARN for exceeding memory limits"
    account.faults({"kind": "step_failure", "status": status, "text": text})
    cluster_id = account.run_cluster()
    failed, next_one = account.add(cluster_id, train()), account.add(cluster_id, train("evaluate r"))
    details = account.wait_step(cluster_id, failed, "FAILED")["FailureDetails"]
    assert details["Reason"] == f"Unknown Error. Exit status {status}."
    assert text in details["Message"]
    assert account.log(f"emr/{cluster_id}/steps/{failed}/stderr.gz").strip() == text
    assert account.wait_step(cluster_id, next_one, "COMPLETED")


def test_a_step_that_hangs_is_a_process_until_it_is_cancelled(account: Account) -> None:
    account.faults({"kind": "step_hang"})
    cluster_id = account.run_cluster()
    step_id = account.add(cluster_id, train())
    account.wait_step(cluster_id, step_id, "RUNNING")
    wait_for(lambda: "sleep infinity " in processes_of(account.cloud).values() or None, "the process that hangs")
    account.emr.cancel_steps(ClusterId=cluster_id, StepIds=[step_id])
    account.wait_step(cluster_id, step_id, "CANCELLED")
    assert processes_of(account.cloud) == {}


def test_a_step_that_hangs_under_timeout_ends_with_124(account: Account) -> None:
    account.faults({"kind": "step_hang"})
    cluster_id = account.run_cluster()
    step_id = account.add(cluster_id, train(under=("timeout", "-k", "60", "1")))
    status = account.wait_step(cluster_id, step_id, "FAILED", "COMPLETED")
    assert status["FailureDetails"]["Reason"] == "Unknown Error. Exit status 124."
    assert processes_of(account.cloud) == {}


def test_a_cluster_that_someone_else_ends_interrupts_its_step(account: Account) -> None:
    account.faults({"kind": "terminated", "during_step": True}, seconds=60)
    cluster_id = account.run_cluster()
    account.wait(cluster_id, "WAITING")
    step_id = account.add(cluster_id, train())
    assert account.end(cluster_id) == ("TERMINATED", "USER_REQUEST", "Terminated by user request")
    assert account.wait_step(cluster_id, step_id, "INTERRUPTED")
    assert processes_of(account.cloud) == {}


def test_a_cluster_that_loses_its_core_nodes_ends_with_errors(account: Account) -> None:
    account.faults({"kind": "node_lost", "all": True})
    assert account.end(account.run_cluster()) == (
        "TERMINATED_WITH_ERRORS",
        "INSTANCE_FAILURE",
        "All slaves in the job flow were terminated",
    )


def test_faults_of_one_cluster_leave_the_others_alone(account: Account) -> None:
    account.faults({"kind": "capacity", "cluster": "unlucky", "times": 5})
    lucky, unlucky = account.run_cluster(Name="lucky"), account.run_cluster(Name="unlucky")
    assert account.end(unlucky)[1] == "INTERNAL_ERROR"
    assert account.wait(lucky, "WAITING")
    assert [fault["struck"] for fault in list_faults(account.cloud.endpoint)] == [1, 1]


@in_namespaces
def test_bootstrap_actions_run_one_after_the_other_with_their_arguments_and_their_logs_are_kept(
    account: Account,
) -> None:
    first = account.script("first.sh", '#!/bin/bash\necho first > /tmp/order\necho "args: $*"\n')
    first["ScriptBootstrapAction"]["Args"] = ["two words", "3"]
    second = account.script("second.sh", "#!/bin/bash\ncat /tmp/order\necho trouble >&2\n")
    cluster_id = account.run_cluster(BootstrapActions=[first, second])
    account.wait(cluster_id, "WAITING", "TERMINATED_WITH_ERRORS")
    (primary,) = account.emr.list_instances(ClusterId=cluster_id, InstanceGroupTypes=["MASTER"])["Instances"]
    folder = f"emr/{cluster_id}/node/{primary['Ec2InstanceId']}/bootstrap-actions"
    assert account.log(f"{folder}/1/stdout.gz") == "args: two words 3\n"
    assert account.log(f"{folder}/2/stdout.gz") == "first\n"
    assert account.log(f"{folder}/2/stderr.gz") == "trouble\n"


@in_namespaces
def test_a_bootstrap_action_that_fails_ends_the_cluster_with_its_last_line(account: Account) -> None:
    good = account.script("good.sh", "#!/bin/bash\ntrue\n")
    bad = account.script("bad.sh", "#!/bin/bash\necho 'no such package: tenserflow' >&2\nexit 3\n")
    cluster_id = account.run_cluster(BootstrapActions=[good, bad])
    state, code, message = account.end(cluster_id)
    assert (state, code) == ("TERMINATED_WITH_ERRORS", "BOOTSTRAP_FAILURE")
    assert message.endswith("bootstrap action 2 returned a non-zero return code: no such package: tenserflow")
    (details,) = account.emr.describe_cluster(ClusterId=cluster_id)["Cluster"]["Status"]["ErrorDetails"]
    assert {"return-code": "3"} in details["ErrorData"]
    assert processes_of(account.cloud) == {}


def test_a_bootstrap_action_that_is_not_there_ends_the_cluster(account: Account) -> None:
    missing = {"Name": "gone", "ScriptBootstrapAction": {"Path": "s3://shardmill-lake/scripts/gone.sh"}}
    state, code, message = account.end(account.run_cluster(BootstrapActions=[missing]))
    assert (state, code) == ("TERMINATED_WITH_ERRORS", "BOOTSTRAP_FAILURE")
    assert "failed attempting to download bootstrap action 1 file from S3" in message


@in_namespaces
@pytest.mark.parametrize(
    "timer",
    [
        "nohup bash -c 'sleep 2; shutdown -h now' >/dev/null 2>&1 &",
        "systemd-run --on-active=2 /usr/sbin/shutdown -h now",
    ],
)
def test_a_deadline_timer_ends_a_cluster_whose_step_hangs_and_nothing_else(account: Account, timer: str) -> None:
    account.faults({"kind": "step_hang", "cluster": "late"})
    other = account.run_cluster(Name="other")
    armed = account.script("deadline.sh", f"#!/bin/bash\n{timer}\n")
    late = account.run_cluster(Name="late", BootstrapActions=[armed])
    step_id = account.add(late, train())
    account.wait_step(late, step_id, "RUNNING")
    assert account.end(late) == (
        "TERMINATED_WITH_ERRORS",
        "INSTANCE_FAILURE",
        "All instances in the job flow are terminated",
    )
    assert account.wait_step(late, step_id, "INTERRUPTED")
    assert processes_of(account.cloud) == {}
    assert account.wait(other, "WAITING")


@in_namespaces
def test_our_own_node_scripts_run_and_their_deadline_holds(account: Account) -> None:
    scripts = {path.name: path.read_text() for path in (files("shardmill") / "node_scripts").iterdir()}
    deadline, cgroups = (account.script(name, scripts[name]) for name in ("deadline.sh", "gpu_cgroups.sh"))
    deadline["ScriptBootstrapAction"]["Args"] = [str(int(time.time()) + 15)]
    cluster_id = account.run_cluster(BootstrapActions=[deadline, cgroups])
    account.wait(cluster_id, "WAITING")
    assert account.end(cluster_id)[2] == "All instances in the job flow are terminated"
    assert processes_of(account.cloud) == {}


@in_namespaces
def test_a_node_that_comes_too_late_ends_its_cluster_at_once(account: Account) -> None:
    text = (files("shardmill") / "node_scripts" / "deadline.sh").read_text()
    late = account.script("deadline.sh", text)
    late["ScriptBootstrapAction"]["Args"] = ["2026-01-01T00:00:00+00:00"]
    state, code, message = account.end(account.run_cluster(BootstrapActions=[late]))
    assert (state, code) == ("TERMINATED_WITH_ERRORS", "INSTANCE_FAILURE")
    assert message == "All instances in the job flow are terminated"


@in_namespaces
def test_what_a_bootstrap_action_left_running_ends_with_its_cluster(account: Account) -> None:
    left = account.script("left.sh", "#!/bin/bash\nnohup sleep 600 >/dev/null 2>&1 &\n")
    cluster_id = account.run_cluster(BootstrapActions=[left])
    account.wait(cluster_id, "WAITING")
    assert any("sleep 600" in command for command in processes_of(account.cloud).values())
    account.emr.terminate_job_flows(JobFlowIds=[cluster_id])
    account.end(cluster_id)
    assert processes_of(account.cloud) == {}


def test_without_bootstrap_actions_no_namespace_is_made(account: Account) -> None:
    cluster_id = account.run_cluster()
    account.wait(cluster_id, "WAITING")
    assert not (account.cloud.state_dir / "clusters" / cluster_id / "machine").exists()
    assert processes_of(account.cloud) == {}


@in_namespaces
def test_a_kill_of_the_local_aws_leaves_nothing_of_a_machine(tmp_path: Path) -> None:
    with local_cloud(tmp_path / "state") as running:
        account = Account(running)
        account.faults({"kind": "step_hang"})
        left = account.script("left.sh", "#!/bin/bash\nnohup sleep 600 >/dev/null 2>&1 &\n")
        cluster_id = account.run_cluster(BootstrapActions=[left], Steps=[train(under=("timeout", "600"))])
        account.wait(cluster_id, "RUNNING")
        wait_for(lambda: "sleep infinity " in processes_of(running).values() or None, "the process that hangs")
        assert any("sleep 600" in command for command in processes_of(running).values())
        os.kill(running.pid, signal.SIGKILL)
        wait_for(lambda: True if not processes_of(running) else None, "the end of all processes", 5)
