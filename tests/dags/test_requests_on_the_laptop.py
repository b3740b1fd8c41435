"""What a run asks of AWS, GPUs and all, is what the laptop's EMR takes, with a real Spark behind it."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardmill.adapters.code_archive import EVENT_LOGS, ship_scripts
from shardmill.adapters.store import Store, StoreSettings
from shardmill.core.emr_request import cluster_request, spark_step
from shardmill.localcloud.image_refusals import Image
from shardmill.localcloud.launch import LocalCloud, local_cloud
from shardmill.localcloud.refusals import Holdings, check_cluster
from shardmill.localcloud.seed import client
from shardmill.localcloud.translate import LocalNodes, translate_step
from shardmill.specs.run import RunSpec
from shardmill.specs.video_pipeline import VideoPipelineSpec

CLUSTER_PYTHON = Path(sys.prefix).parent / "cluster" / "bin" / "python"
IMAGE = "ami-0123456789abcdef0"
HOLDINGS = Holdings({IMAGE: Image(20)}, frozenset({"EMR_DefaultRole"}), frozenset({"EMR_EC2_DefaultRole"}))
KEY = "arn:aws:kms:us-east-1:123456789012:key/12345678-aaaa-bbbb-cccc-1234567890ab"
CODE = ("s3://shardmill-lake/code/package.zip", "s3://shardmill-lake/code/job.py")
JOB = """
from pyspark import SparkContext
context = SparkContext()
found = context.parallelize(range(8), 2).map(lambda number: number * number).collect()
print("sum", sum(found))
print("driver", context.getConf().get("spark.driver.maxResultSize"))
context.stop()
"""
RUN = RunSpec(
    run="video_pipeline.manual-1",
    started="now",
    asked=VideoPipelineSpec(owner="ada", spark_conf="spark.locality.wait=0"),
)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[LocalCloud]:
    if not CLUSTER_PYTHON.exists():
        pytest.skip(f"no cluster environment: {CLUSTER_PYTHON} is not there")
    with local_cloud(tmp_path / "state") as running:
        yield running


class Types:
    """EC2 with the types of the form's defaults."""

    def describe_instance_types(self, InstanceTypes):  # noqa: N803
        gpus = {"GpuInfo": {"Gpus": [{"Manufacturer": "NVIDIA", "Count": 1}]}} if InstanceTypes[0][0] == "g" else {}
        return {"InstanceTypes": [{"VCpuInfo": {"DefaultVCpus": 4}, "MemoryInfo": {"SizeInMiB": 16384}, **gpus}]}


def test_a_step_on_a_gpu_cluster_becomes_one_of_the_laptops_slots_without_gpus():
    from shardmill_airflow.run_clusters import cluster_spec, executors

    count, settings = executors(RUN, "train", Types())
    step = spark_step("train", code=CODE, arguments=("train",), workers=count, settings=settings, seconds=600)
    request = cluster_request(cluster_spec(RUN, "train", "ami-0123456789abcdef0", "us-east-1"))
    nodes = LocalNodes("spark://127.0.0.1:7077", slots=2, memory_mib=1024, python=str(CLUSTER_PYTHON))
    found = translate_step(step["HadoopJarStep"]["Args"], request["Configurations"], nodes, Path("/steps/s-1"))
    words = zip(found.argv, found.argv[1:], strict=False)
    given = dict(word.split("=", 1) for option, word in words if option == "--conf")
    assert (given["spark.executor.cores"], given["spark.task.cpus"], given["spark.cores.max"]) == ("1", "1", "2")
    assert (given["spark.executor.memory"], given["spark.driver.memory"]) == ("1024m", "1024m")
    assert given["spark.locality.wait"] == "0"
    assert not [name for name in given if "gpu" in name or "yarn" in name or "Overhead" in name]
    assert [note for note in found.notes if "gpu" in note]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"spot_count": 1},
        {"nodes": "fleets", "spot_count": 2, "spot_types": "g4dn.xlarge,g5.xlarge"},
        {"nodes": "fleets", "spot_count": 2, "spot_strategy": "capacity-optimized-prioritized"},
        {"core_type": "m5.xlarge", "applications": "Spark,Hadoop", "log_kms_key": KEY},
        {"security_configuration": "shardmill", "subnet_id": "subnet-01234567"},
    ],
    ids=str,
)
def test_the_laptops_emr_refuses_nothing_that_the_form_takes(asked):
    from shardmill_airflow.run_clusters import cluster_spec

    run = RUN.model_copy(update={"asked": VideoPipelineSpec(where="cluster", split_spot_count=1, **asked)})
    for work in ("train", "split"):
        request = cluster_request(cluster_spec(run, work, IMAGE, "us-east-1"))
        check_cluster(request, HOLDINGS)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_cluster_and_a_step_as_a_run_asks_for_them_work_on_the_laptop(cloud):
    from shardmill_airflow.run_clusters import cluster_spec, executors

    settings = StoreSettings.from_environment(cloud.environment())
    lake = Store("s3://shardmill-lake", settings)
    emr, ec2 = client("emr", cloud.endpoint), client("ec2", cloud.endpoint)
    image_id = ec2.describe_images(Owners=["self"])["Images"][0]["ImageId"]
    ship_scripts(lake)
    for uri, content in zip(CODE, (b"PK\5\6" + bytes(18), JOB.encode()), strict=True):
        lake.put_new(uri.removeprefix("s3://shardmill-lake/"), content)
    cluster_id = emr.run_job_flow(**cluster_request(cluster_spec(RUN, "train", image_id, "us-east-1")))["JobFlowId"]
    patience = {"Delay": 1, "MaxAttempts": 120}
    emr.get_waiter("cluster_running").wait(ClusterId=cluster_id, WaiterConfig=patience)
    count, asked = executors(RUN, "train", ec2)
    step = spark_step("count", code=CODE, arguments=(), workers=count, settings=asked, seconds=600)
    (step_id,) = emr.add_job_flow_steps(JobFlowId=cluster_id, Steps=[step])["StepIds"]
    emr.get_waiter("step_complete").wait(ClusterId=cluster_id, StepId=step_id, WaiterConfig=patience)
    logs = Store(f"{RUN.folder}/logs/{cluster_id}", settings)
    assert gzip.decompress(logs.get(f"steps/{step_id}/stdout.gz")).decode().split() == ["sum", "140", "driver", "1024m"]
    assert len([one for one in lake.files(f"{EVENT_LOGS}/") if not one.key.endswith("/.keep")]) == 1
