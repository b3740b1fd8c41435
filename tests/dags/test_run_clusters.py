from __future__ import annotations

from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest

from shardmill.adapters.run_folder import freeze
from shardmill.core.emr_request import cluster_request
from shardmill.core.planning import BadRequestError
from shardmill.specs.manifest import SourceObject
from shardmill.specs.run import PlannedShard, RunPlan, RunSpec
from shardmill.specs.split_outcome import SplitFailures, SplitResult
from shardmill.specs.video_pipeline import VideoPipelineSpec
from shardmill.stages import OpenRun

SIZES = {"m5.xlarge": (4, 16), "m5.2xlarge": (8, 32), "g4dn.xlarge": (4, 16), "g4dn.12xlarge": (48, 192)}
GPUS = {"g4dn.xlarge": 1, "g4dn.12xlarge": 4}


class Ec2:
    """Knows some instance types."""

    def describe_instance_types(self, InstanceTypes):  # noqa: N803
        (name,) = InstanceTypes
        cores, memory_gib = SIZES[name]
        size = {"VCpuInfo": {"DefaultVCpus": cores}, "MemoryInfo": {"SizeInMiB": memory_gib * 1024}}
        gpus = {"GpuInfo": {"Gpus": [{"Manufacturer": "NVIDIA", "Count": GPUS[name]}]}} if name in GPUS else {}
        return {"InstanceTypes": [size | gpus]}


@pytest.fixture
def open_run(lake):
    def make(*, todo=("clips",), **asked):
        run = RunSpec(run="r1", started="now", asked=VideoPipelineSpec(lake=lake.uri, **asked))
        source = SourceObject(uri="s3://b/s-000000.tar", size=1, version="v")
        plan = RunPlan(shards=(PlannedShard(shard=0, source=source, todo=dict.fromkeys(todo, "new")),))
        freeze(lake, "r1", "plan.json", plan)
        return OpenRun(lake, run, SimpleNamespace())

    return make


def test_no_two_clusters_of_any_runs_have_one_name():
    from shardmill_airflow.run_clusters import cluster_name

    folders = [f"{lake}/runs/{run}" for lake in ("s3://a", "s3://b") for run in ("x", "x-split", "x.split")]
    names = [cluster_name(folder, work) for folder in folders for work in ("train", "split")]
    assert len(names) == len(set(names))


def test_the_cluster_that_splits_has_the_nodes_that_were_asked_for_and_says_its_work(open_run):
    from shardmill_airflow.run_clusters import cluster_name, cluster_spec

    run = open_run(where="cluster", split_type="c7a.4xlarge", split_count=5).run
    request = cluster_request(cluster_spec(run, "split", "ami-0123456789abcdef0", "us-east-1"))
    core = request["Instances"]["InstanceGroups"][1]
    assert (core["InstanceType"], core["InstanceCount"]) == ("c7a.4xlarge", 5)
    assert request["Name"] == cluster_name(run.folder, "split")
    assert {"Key": "folder", "Value": run.folder} in request["Tags"]
    assert {"Key": "work", "Value": "split"} in request["Tags"]
    training = cluster_request(cluster_spec(run, "train", "ami-0123456789abcdef0", "us-east-1"))
    assert training["Instances"]["InstanceGroups"][1]["InstanceType"] == "g4dn.xlarge"


def test_each_way_to_split_is_skipped_where_the_other_is_asked_for(open_run):
    from airflow.sdk.exceptions import AirflowSkipException

    from shardmill_airflow.run_clusters import why_none

    assert why_none(open_run(where="cluster"), "split") == ""
    with pytest.raises(AirflowSkipException, match="by Airflow's workers"):
        why_none(open_run(where="workers"), "split")


def test_no_cluster_is_made_for_shards_that_are_split(open_run, lake):
    from airflow.sdk.exceptions import AirflowSkipException

    from shardmill_airflow.run_clusters import why_none

    with pytest.raises(AirflowSkipException, match="nothing to do"):
        why_none(open_run(where="cluster", todo=("features",)), "split")
    freeze(lake, "r1", "split.json", SplitResult(recipe="x", shards=(0,), seconds=1.0))
    assert why_none(open_run(where="cluster"), "split") == "every shard is split"


def test_a_step_that_splits_takes_whole_nodes_and_one_that_trains_its_workers(open_run, monkeypatch):
    from shardmill_airflow.run_clusters import executors

    monkeypatch.setenv("SHARDMILL_UNSANDBOXED_OK", "1")
    run = open_run(where="cluster", split_count=3, workers=7, core_type="g4dn.12xlarge").run
    count, settings = executors(run, "split", Ec2())
    assert (count, settings["spark.task.cpus"]) == (3, "8")
    assert settings["spark.executorEnv.SHARDMILL_UNSANDBOXED_OK"] == "1"
    count, settings = executors(run, "train", Ec2())
    assert (count, settings["spark.executor.cores"], settings["spark.task.cpus"]) == (7, "11", "11")


def test_what_steps_ask_of_gpus_stands_in_the_clusters_settings_alone(open_run):
    from shardmill_airflow.run_clusters import cluster_spec, executors

    run = open_run().run
    assert "gpu" not in str(executors(run, "train", Ec2())[1])
    assert "gpu" in str(cluster_request(cluster_spec(run, "train", "ami-0123456789abcdef0", "us-east-1")))


def test_workers_that_do_not_fit_are_told_before_a_cluster_exists(open_run):
    from shardmill_airflow.run_clusters import executors

    with pytest.raises(BadRequestError, match=r"workers: a worker takes a GPU, and 2 × g4dn\.xlarge have 2"):
        executors(open_run(workers=3).run, "train", Ec2())
    assert executors(open_run(workers=3, spot_count=1).run, "train", Ec2())[0] == 3


def test_of_core_and_spot_types_the_smallest_decides(open_run):
    from shardmill_airflow.run_clusters import spark_layout

    asked = {"core_type": "g4dn.12xlarge", "nodes": "fleets", "spot_count": 2, "spot_types": "g4dn.xlarge"}
    assert spark_layout(open_run(workers=4, **asked).run, "train", Ec2()).settings["spark.executor.cores"] == "3"
    with pytest.raises(BadRequestError, match=r"workers: a worker takes a GPU, and 4 × g4dn\.12xlarge or g4dn\.xlarge"):
        spark_layout(open_run(workers=5, **asked).run, "train", Ec2())


def test_each_work_has_its_own_settings_from_the_form(open_run):
    from shardmill_airflow.run_clusters import executors

    asked = {
        "spark_conf": "spark.driver.memory=3g",
        "split_spark_conf": "spark.executor.memory=2g; spark.locality.wait=5s",
    }
    run = open_run(where="cluster", split_spot_count=2, **asked).run
    assert executors(run, "train", Ec2())[1]["spark.driver.memory"] == "3g"
    count, settings = executors(run, "split", Ec2())
    assert (count, settings["spark.executor.memory"], settings["spark.locality.wait"]) == (4, "2g", "5s")
    assert "spark.driver.memory" not in settings


def test_spot_nodes_of_either_work_are_of_its_own_type(open_run):
    from shardmill_airflow.run_clusters import cluster_spec

    run = open_run(where="cluster", spot_count=1, spot_types="g5.xlarge", split_spot_count=4).run
    tasks = {
        work: cluster_request(cluster_spec(run, work, "ami-0123456789abcdef0", "us-east-1"))["Instances"][
            "InstanceGroups"
        ][2]
        for work in ("train", "split")
    }
    assert {work: (one["InstanceType"], one["InstanceCount"]) for work, one in tasks.items()} == {
        "train": ("g5.xlarge", 1),
        "split": ("m5.2xlarge", 4),
    }


def test_every_node_sets_its_timer_when_it_boots_and_those_that_train_on_gpus_mount_cgroups(open_run, lake):
    from shardmill.adapters.code_archive import ship_scripts
    from shardmill_airflow.run_clusters import cluster_spec

    shipped, run = ship_scripts(lake), open_run(where="cluster").run
    assert cluster_spec(run, "train", "ami-0123456789abcdef0", "us-east-1").event_logs == f"{lake.uri}/spark-events"
    for work, names in (("train", ["deadline.sh", "gpu_cgroups.sh"]), ("split", ["deadline.sh"])):
        cluster = cluster_spec(run, work, "ami-0123456789abcdef0", "us-east-1")
        assert [action.path for action in cluster.bootstrap] == [shipped[name] for name in names]
        (told,) = cluster.bootstrap[0].arguments
        late = datetime.fromisoformat(told) - datetime.fromisoformat(cluster.deadline)
        assert timedelta(0) < late <= timedelta(minutes=2)


def test_a_cluster_that_emr_would_refuse_is_refused_by_field(open_run):
    from shardmill_airflow.run_clusters import cluster_spec

    run = open_run(release_label="emr-6.15.0").run
    with pytest.raises(BadRequestError, match=r"release_label: g4dn\.xlarge has GPUs"):
        cluster_spec(run, "train", "ami-0123456789abcdef0", "us-east-1")


def test_what_sparks_tries_could_not_mend_is_not_tried_by_airflow_again(open_run, lake):
    from shardmill_airflow.run_clusters import lasting_failure

    opened = open_run(where="cluster")
    assert not lasting_failure(opened, "split")
    freeze(lake, "r1", "split-failures.json", SplitFailures(failures=()))
    assert lasting_failure(opened, "split")
    assert not lasting_failure(opened, "train")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"source": "file:///data"}, "where: a cluster reads s3://"),
        ({"source_connection": "gcs"}, "where: a cluster reads s3://"),
        ({"fused": True, "labels": "file:///labels.csv"}, "labels: a cluster reads s3:// only"),
    ],
)
def test_what_nodes_cannot_read_is_refused_before_they_cost(asked, message):
    from shardmill_airflow.run_clusters import check_reach

    with pytest.raises(BadRequestError, match=message):
        check_reach(VideoPipelineSpec(where="cluster", **asked))
    check_reach(VideoPipelineSpec(where="workers", **asked))
    check_reach(VideoPipelineSpec(where="cluster", ingest="copy", source="file:///data"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"spark_conf": "spark.master=local"}, "spark_conf\n.*spark.master cannot be set here"),
        ({"split_spark_conf": "spark"}, "split_spark_conf\n.*expected spark.name=value"),
        ({"spot_types": "g5.xlarge,g6.xlarge"}, "spot_types: an instance group has one type"),
        ({"spot_types": "m5.xlarge"}, "spot_types: m5.xlarge and core_type g4dn.xlarge"),
        ({"applications": "Hive"}, "applications\n.*expected Spark among them"),
        ({"owner": ""}, "owner"),
        ({"log_kms_key": "mine"}, "log_kms_key"),
        ({"security_configuration": "a b"}, "security_configuration"),
    ],
)
def test_a_form_that_no_cluster_could_be_made_of_is_refused_by_field(asked, message):
    with pytest.raises(ValueError, match=message):
        VideoPipelineSpec(**asked)
