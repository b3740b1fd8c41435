"""The whole of it: EMR's API in front, real JVMs and Python workers behind. The first tests share one cluster."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cloud_processes import processes_of

from shardmill.core.emr_request import cluster_request, spark_step
from shardmill.localcloud.faults import clear_faults, list_faults, set_faults
from shardmill.localcloud.launch import LocalCloud, LocalCloudError, local_cloud
from shardmill.localcloud.seed import client
from shardmill.specs.cluster import ClusterSpec

T = TypeVar("T")
CLUSTER_PYTHON = Path(sys.prefix).parent / "cluster" / "bin" / "python"
pytestmark = [
    pytest.mark.skipif(not CLUSTER_PYTHON.exists(), reason=f"no cluster environment: {CLUSTER_PYTHON} is not there"),
    pytest.mark.timeout(600),
]
PACKAGE = ("s3://shardmill-lake/code/package.zip", "s3://shardmill-lake/code/job.py")
JOB = """
import os, sys, time
if sys.argv[1] == "fail":
    raise ValueError("no label matches a video")
from pyspark.sql import SparkSession
context = SparkSession.builder.getOrCreate().sparkContext
mode = sys.argv[1]
def task(number, mode=mode):
    import os, sys, time
    from shipped import double
    time.sleep({"busy": 600, "slow": 4}.get(mode, 0.5))
    return double(number), sys.executable, os.environ["AWS_ENDPOINT_URL"], os.environ["SPARK_LOCAL_IP"]
found = context.parallelize(range(4), 4).map(task).collect()
print("sum", sum(one[0] for one in found))
print("pythons", *{one[1] for one in found}, sys.executable)
print("endpoints", *{one[2] for one in found}, os.environ["AWS_ENDPOINT_URL"])
print("hosts", *sorted({one[3] for one in found}))
print("arguments", sys.argv[1:])
"""

BARRIER_JOB = """
from pyspark import SparkContext
SparkContext().parallelize(range(1), 1).barrier().mapPartitions(list).collect()
"""


class Account:
    """The clients of one local AWS, and the requests of the pipeline."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        self.s3, self.emr, self.ec2 = (client(name, cloud.endpoint) for name in ("s3", "emr", "ec2"))
        package = io.BytesIO()
        with zipfile.ZipFile(package, "w") as archive:
            archive.writestr("shipped.py", "def double(number):\n    return 2 * number\n")
        self.s3.put_object(Bucket="shardmill-lake", Key="code/package.zip", Body=package.getvalue())
        self.s3.put_object(Bucket="shardmill-lake", Key="code/job.py", Body=JOB.encode())

    def image(self) -> str:
        tagged = [{"Name": "tag:shardmill", "Values": ["cluster"]}]
        found: str = self.ec2.describe_images(Owners=["self"], Filters=tagged)["Images"][0]["ImageId"]
        return found

    def run_cluster(self, **changes: Any) -> str:
        log_uri, deadline = "s3://shardmill-logs/emr", "2026-11-21T00:00:00+00:00"
        spec = ClusterSpec(name="c", run="r", image_id=self.image(), log_uri=log_uri, deadline=deadline)
        found: str = self.emr.run_job_flow(**{**cluster_request(spec), **changes})["JobFlowId"]
        return found

    def wait(self, cluster_id: str, *states: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            status: dict[str, Any] = self.emr.describe_cluster(ClusterId=cluster_id)["Cluster"]["Status"]
            return status if status["State"] in states else None

        return wait_for(look, f"{cluster_id} to be {states}")

    def add(self, cluster_id: str, *steps: dict[str, Any]) -> list[str]:
        found: list[str] = self.emr.add_job_flow_steps(JobFlowId=cluster_id, Steps=list(steps))["StepIds"]
        return found

    def wait_step(self, cluster_id: str, step_id: str, *states: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            status: dict[str, Any] = self.emr.describe_step(ClusterId=cluster_id, StepId=step_id)["Step"]["Status"]
            return status if status["State"] in states else None

        return wait_for(look, f"{step_id} to be {states}")

    def log(self, key: str) -> str:
        return gzip.decompress(self.s3.get_object(Bucket="shardmill-logs", Key=key)["Body"].read()).decode()


def wait_for(look: Callable[[], T | None], what: str, seconds: float = 240.0) -> T:
    deadline = time.monotonic() + seconds
    while (found := look()) is None:
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.1)
    return found


def job(mode: str, *arguments: str) -> dict[str, Any]:
    return spark_step(mode, code=PACKAGE, arguments=[mode, *arguments], workers=2)


def python_workers(cloud: LocalCloud) -> list[int]:
    return [pid for pid, command in processes_of(cloud).items() if "pyspark.daemon" in command]


def listening_addresses(pid: int) -> set[str]:
    """The local addresses, in /proc's hexadecimal, on which a process listens."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(str(entry.readlink()).removeprefix("socket:[").removesuffix("]"))
        except OSError:
            continue
    rows = [
        row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
    ]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes}


def is_loopback(address: str) -> bool:
    return address == "0000000000000000FFFF00000100007F" or address[-2:] == "7F"


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with local_cloud(tmp_path_factory.mktemp("cloud") / "state") as cloud:
        yield Account(cloud)


@pytest.fixture(scope="module")
def cluster_id(account: Account) -> str:
    found = account.run_cluster()
    account.emr.get_waiter("cluster_running").wait(ClusterId=found, WaiterConfig={"Delay": 1, "MaxAttempts": 200})
    return found


def test_a_job_that_was_shipped_runs_on_both_workers_and_its_logs_lie_where_emr_puts_them(
    account: Account, cluster_id: str
) -> None:
    (step_id,) = account.add(cluster_id, job("count", "two words"))
    account.emr.get_waiter("step_complete").wait(
        ClusterId=cluster_id, StepId=step_id, WaiterConfig={"Delay": 1, "MaxAttempts": 240}
    )
    stdout = account.log(f"emr/{cluster_id}/steps/{step_id}/stdout.gz").splitlines()
    assert "sum 12" in stdout
    assert f"pythons {CLUSTER_PYTHON} {CLUSTER_PYTHON}" in stdout
    assert f"endpoints {account.cloud.endpoint} {account.cloud.endpoint}" in stdout
    assert "hosts 127.0.0.1 127.0.0.2" in stdout
    assert "arguments ['count', 'two words']" in stdout
    assert "SparkContext" in account.log(f"emr/{cluster_id}/steps/{step_id}/stderr.gz")
    assert "master yarn → spark://127.0.0.1" in account.log(f"emr/{cluster_id}/steps/{step_id}/controller.gz")
    listed = account.s3.list_objects_v2(Bucket="shardmill-logs", Prefix=f"emr/{cluster_id}/containers/")["Contents"]
    assert len([entry["Key"] for entry in listed if entry["Key"].endswith("/stderr.gz")]) == 2


@pytest.mark.slow
def test_a_step_under_timeout_keeps_its_event_log_and_one_whose_time_is_up_ends_with_124(
    account: Account, cluster_id: str
) -> None:
    events = {"spark.eventLog.enabled": "true", "spark.eventLog.dir": "s3://shardmill-lake/runs/r/events"}
    good = spark_step("timed", code=PACKAGE, arguments=["count"], workers=2, settings=events)
    late = job("busy")
    for step, seconds in ((good, "120"), (late, "20")):
        step["HadoopJarStep"]["Args"] = ["timeout", "-k", "60", seconds, *step["HadoopJarStep"]["Args"]]
    timed, out_of_time = account.add(cluster_id, good, late)
    assert account.wait_step(cluster_id, timed, "COMPLETED", "FAILED")["State"] == "COMPLETED"
    assert "sum 12" in account.log(f"emr/{cluster_id}/steps/{timed}/stdout.gz")
    listed = account.s3.list_objects_v2(Bucket="shardmill-lake", Prefix="runs/r/events/")["Contents"]
    (key,) = [entry["Key"] for entry in listed]
    assert not key.endswith(".inprogress")
    lines = account.s3.get_object(Bucket="shardmill-lake", Key=key)["Body"].read().decode().splitlines()
    assert json.loads(lines[-1])["Event"] == "SparkListenerApplicationEnd"
    status = account.wait_step(cluster_id, out_of_time, "FAILED", "COMPLETED")
    assert status["FailureDetails"]["Reason"] == "Unknown Error. Exit status 124."
    wait_for(lambda: True if not python_workers(account.cloud) else None, "the end of the Python workers", 10)


@pytest.mark.slow
def test_a_worker_that_is_lost_in_mid_job_is_replaced_and_the_job_completes(account: Account, cluster_id: str) -> None:
    (step_id,) = account.add(cluster_id, job("slow"))
    wait_for(lambda: len(python_workers(account.cloud)) >= 4 or None, "two executors' daemons and their workers")
    workers = {pid for pid, command in processes_of(account.cloud).items() if "deploy.worker.Worker" in command}
    set_faults(account.cloud.endpoint, [{"kind": "node_lost", "during_step": True}])
    status = account.wait_step(cluster_id, step_id, "COMPLETED", "FAILED")
    assert (status["State"], list_faults(account.cloud.endpoint)[0]["struck"]) == ("COMPLETED", 1)
    clear_faults(account.cloud.endpoint)
    now = {pid for pid, command in processes_of(account.cloud).items() if "deploy.worker.Worker" in command}
    assert (len(workers), len(now), len(workers & now)) == (2, 2, 1)
    assert "sum 12" in account.log(f"emr/{cluster_id}/steps/{step_id}/stdout.gz")


def test_a_step_that_fails_says_why_and_the_next_one_runs(account: Account, cluster_id: str) -> None:
    missing = spark_step("missing", code=(PACKAGE[0], "s3://shardmill-lake/code/nowhere.py"), arguments=[], workers=1)
    shell = {**job("count"), "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["bash", "-c", "echo hello"]}}
    steps = account.add(cluster_id, job("fail"), missing, shell)
    expected = (
        "ValueError: no label matches a video",
        "s3://shardmill-lake/code/nowhere.py is not there",
        "the local cluster runs spark-submit only",
    )
    for step_id, words in zip(steps, expected, strict=True):
        details = account.wait_step(cluster_id, step_id, "FAILED")["FailureDetails"]
        assert words in details["Message"].splitlines()[0]
        assert words in account.log(details["LogFile"].removeprefix("s3://shardmill-logs/"))
    assert account.wait(cluster_id, "WAITING")


def test_everything_listens_on_loopback_and_a_cancelled_step_leaves_no_worker(
    account: Account, cluster_id: str
) -> None:
    running, waiting = account.add(cluster_id, job("busy"), job("count"))
    wait_for(lambda: len(python_workers(account.cloud)) >= 4 or None, "two executors' daemons and their workers")
    pids = [account.cloud.pid, *processes_of(account.cloud)]
    addresses = {address for pid in pids for address in listening_addresses(pid)}
    assert len(addresses) >= 2
    assert all(is_loopback(address) for address in addresses), addresses
    account.emr.cancel_steps(ClusterId=cluster_id, StepIds=[waiting, running])
    account.wait_step(cluster_id, waiting, "CANCELLED")
    account.wait_step(cluster_id, running, "CANCELLED")
    wait_for(lambda: True if not python_workers(account.cloud) else None, "the end of the Python workers", 10)
    assert account.wait(cluster_id, "WAITING")


def test_barrier_stages_are_refused_with_the_dynamic_allocation_that_emr_has_by_default(
    account: Account, cluster_id: str
) -> None:
    account.s3.put_object(Bucket="shardmill-lake", Key="code/barrier.py", Body=BARRIER_JOB.encode())
    submit = ["spark-submit", "--master", "yarn", "--conf", "spark.dynamicAllocation.enabled=true"]
    arguments = [*submit, "s3://shardmill-lake/code/barrier.py"]
    step = {"Name": "barrier", "HadoopJarStep": {"Jar": "command-runner.jar", "Args": arguments}}
    (step_id,) = account.add(cluster_id, {**step, "ActionOnFailure": "CANCEL_AND_WAIT"})
    status = account.wait_step(cluster_id, step_id, "FAILED", "COMPLETED")
    assert "dynamic resource allocation" in status["FailureDetails"]["Message"]


def test_a_terminated_cluster_leaves_no_process(account: Account, cluster_id: str) -> None:
    (step_id,) = account.add(cluster_id, job("busy"))
    account.wait_step(cluster_id, step_id, "RUNNING")
    account.emr.terminate_job_flows(JobFlowIds=[cluster_id])
    account.emr.get_waiter("cluster_terminated").wait(
        ClusterId=cluster_id, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    status = account.emr.describe_cluster(ClusterId=cluster_id)["Cluster"]["Status"]
    assert (status["State"], status["StateChangeReason"]["Code"]) == ("TERMINATED", "USER_REQUEST")
    assert set(status["Timeline"]) == {"CreationDateTime", "ReadyDateTime", "EndDateTime"}
    assert account.wait_step(cluster_id, step_id, "INTERRUPTED")
    assert processes_of(account.cloud) == {}


@pytest.mark.slow
def test_a_kill_in_mid_job_leaves_no_process(tmp_path: Path) -> None:
    with local_cloud(tmp_path / "state") as cloud:
        account = Account(cloud)
        cluster_id = account.run_cluster(Steps=[job("busy")])
        wait_for(lambda: len(python_workers(cloud)) >= 4 or None, "two executors' daemons and their workers")
        assert account.wait(cluster_id, "RUNNING")
        os.kill(cloud.pid, signal.SIGKILL)
        wait_for(lambda: True if not processes_of(cloud) else None, "the end of all processes", 5)
    with local_cloud(tmp_path / "state") as cloud:
        again = client("s3", cloud.endpoint)
        assert again.get_object(Bucket="shardmill-lake", Key="code/job.py")["Body"].read() == JOB.encode()
        assert client("emr", cloud.endpoint).list_clusters()["Clusters"] == []


def test_it_makes_way_on_a_taken_port_and_stops_within_seconds_with_its_processes(
    account: Account, tmp_path: Path
) -> None:
    taken = int(account.cloud.endpoint.rpartition(":")[2])
    with local_cloud(tmp_path / "state", port=taken) as cloud:
        assert cloud.endpoint != account.cloud.endpoint
        Account(cloud).run_cluster()
        wait_for(
            lambda: any("deploy.worker" in command for command in processes_of(cloud).values()) or None, "a worker"
        )
        before = time.monotonic()
    assert time.monotonic() - before < 5
    assert processes_of(cloud) == {}
    assert not (tmp_path / "state" / "endpoint.json").exists()


def test_a_folder_that_is_in_use_is_refused_and_its_user_is_left_alone(account: Account) -> None:
    folder = account.cloud.state_dir
    with pytest.raises(LocalCloudError, match="another local AWS works on"), local_cloud(folder):
        pass
    assert (folder / "endpoint.json").exists()
    assert account.s3.list_buckets()["Buckets"]


def test_a_spark_that_does_not_start_ends_the_cluster_with_the_reason(tmp_path: Path) -> None:
    python = tmp_path / "broken" / "bin" / "python"
    spark_class = tmp_path / "broken" / "lib" / "python3.11" / "site-packages" / "pyspark" / "bin" / "spark-class"
    for path, text in ((python, ""), (spark_class, "#!/bin/sh\necho 'no room for a JVM' >&2\nexit 3\n")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    with local_cloud(tmp_path / "state", cluster_python=python) as cloud:
        account = Account(cloud)
        status = account.wait(account.run_cluster(), "TERMINATED_WITH_ERRORS")
    assert status["StateChangeReason"]["Code"] == "BOOTSTRAP_FAILURE"
    assert "no room for a JVM" in status["StateChangeReason"]["Message"]
