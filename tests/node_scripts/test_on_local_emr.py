"""A cluster that nobody looks after any more ends by the timers of its own nodes."""

from __future__ import annotations

import gzip
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shardmill.adapters.code_archive import ship_scripts
from shardmill.adapters.sandbox import SandboxError, find_sandbox
from shardmill.adapters.store import Store, StoreSettings
from shardmill.core.emr_request import cluster_request, node_scripts, spark_step
from shardmill.localcloud.faults import set_faults
from shardmill.localcloud.launch import LocalCloud, local_cloud
from shardmill.localcloud.seed import client
from shardmill.specs.cluster import BootstrapAction, ClusterSpec

CLUSTER_PYTHON = Path(sys.prefix).parent / "cluster" / "bin" / "python"
pytestmark = [
    pytest.mark.skipif(not CLUSTER_PYTHON.exists(), reason=f"no cluster environment: {CLUSTER_PYTHON} is not there"),
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """A local AWS without Spark, whose steps sleep for an hour."""
    try:
        if find_sandbox().kind == "none":
            pytest.skip("this system gives no namespaces")
    except SandboxError as error:
        pytest.skip(str(error))
    with local_cloud(tmp_path_factory.mktemp("cloud") / "state") as running:
        set_faults(running.endpoint, [{"kind": "no_spark", "seconds": 3600.0}])
        yield running


def run_cluster(cloud: LocalCloud, deadline: datetime) -> str:
    told = deadline.isoformat(timespec="seconds")
    settings = StoreSettings.from_environment(cloud.environment())
    uris = ship_scripts(Store("s3://shardmill-lake", settings))
    spec = ClusterSpec(
        name="shardmill-r",
        run="r",
        image_id=client("ec2", cloud.endpoint).describe_images(Owners=["self"])["Images"][0]["ImageId"],
        log_uri="s3://shardmill-logs/emr",
        deadline=told,
        bootstrap=tuple(
            BootstrapAction(name=name, path=uris[name], arguments=arguments)
            for name, arguments in node_scripts(told, gpus=True).items()
        ),
    )
    return str(client("emr", cloud.endpoint).run_job_flow(**cluster_request(spec))["JobFlowId"])


def wait(emr: Any, cluster_id: str, *states: str, seconds: float) -> dict[str, Any]:
    give_up = time.monotonic() + seconds
    while True:
        status: dict[str, Any] = emr.describe_cluster(ClusterId=cluster_id)["Cluster"]["Status"]
        if status["State"] in states:
            return status
        assert time.monotonic() < give_up, status
        time.sleep(0.2)


@pytest.mark.slow
def test_a_step_that_hangs_does_not_keep_a_cluster_beyond_its_deadline(cloud):
    emr = client("emr", cloud.endpoint)
    deadline = datetime.now(UTC) - timedelta(seconds=40)  # its nodes wait a minute longer
    cluster_id = run_cluster(cloud, deadline)
    wait(emr, cluster_id, "WAITING", seconds=18)
    step = spark_step("hangs", code=("s3://l/c.zip", "s3://l/j.py"), arguments=("train",), workers=1)
    emr.add_job_flow_steps(JobFlowId=cluster_id, Steps=[step])
    wait(emr, cluster_id, "RUNNING", seconds=10)
    ended = wait(emr, cluster_id, "TERMINATED", "TERMINATED_WITH_ERRORS", seconds=40)
    assert datetime.now(UTC) < deadline + timedelta(minutes=2)
    assert ended["StateChangeReason"]["Message"] == "All instances in the job flow are terminated"


def test_what_nodes_said_at_boot_lies_among_the_logs(cloud):
    emr, s3 = client("emr", cloud.endpoint), client("s3", cloud.endpoint)
    cluster_id = run_cluster(cloud, datetime.now(UTC) + timedelta(hours=2))
    wait(emr, cluster_id, "WAITING", seconds=30)
    found = s3.list_objects_v2(Bucket="shardmill-logs", Prefix=f"emr/{cluster_id}/node/")["Contents"]
    (key,) = [one["Key"] for one in found if one["Key"].endswith("bootstrap-actions/1/stdout.gz")]
    said = gzip.decompress(s3.get_object(Bucket="shardmill-logs", Key=key)["Body"].read()).decode()
    assert "deadline.sh: this node shuts down in 72" in said
