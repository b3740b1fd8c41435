from __future__ import annotations

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


class Ec2:
    """Knows one instance type."""

    def describe_instance_types(self, InstanceTypes):  # noqa: N803
        assert InstanceTypes == ["m5.2xlarge"]
        return {"InstanceTypes": [{"VCpuInfo": {"DefaultVCpus": 8}, "MemoryInfo": {"SizeInMiB": 32768}}]}


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

    names = [cluster_name(run, work) for run in ("x", "x-split", "x.split") for work in ("train", "split")]
    assert len(names) == len(set(names))


def test_the_cluster_that_splits_has_the_nodes_that_were_asked_for_and_says_its_work(open_run):
    from shardmill_airflow.run_clusters import cluster_spec

    run = open_run(where="cluster", split_type="c7a.4xlarge", split_count=5).run
    request = cluster_request(cluster_spec(run, "split", "ami-0123456789abcdef0", "us-east-1"))
    core = request["Instances"]["InstanceGroups"][1]
    assert (core["InstanceType"], core["InstanceCount"]) == ("c7a.4xlarge", 5)
    assert request["Name"] == "shardmill-r1:split"
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
    run = open_run(where="cluster", split_count=3, workers=7).run
    count, settings = executors(run, "split", Ec2())
    assert (count, settings["spark.task.cpus"]) == (3, "8")
    assert settings["spark.executorEnv.SHARDMILL_UNSANDBOXED_OK"] == "1"
    assert executors(run, "train", Ec2()) == (7, {})


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
