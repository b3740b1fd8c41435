from __future__ import annotations

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from moto import mock_aws

from shardmill.adapters import emr as clusters
from shardmill.core.emr_request import NodeSize, cluster_request, spark_step
from shardmill.specs.cluster import ClusterSpec


@pytest.fixture
def emr(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield boto3.client("emr", region_name="us-east-1")


@pytest.fixture
def request_(emr):
    spec = ClusterSpec(
        name="shardmill-r1",
        run="r1",
        image_id="ami-0123456789abcdef0",
        log_uri="s3://l/logs",
        deadline="2026-11-21T06:00:00+00:00",
    )
    return cluster_request(spec)


class AnswerLost:
    """A client whose call takes effect while its answer is lost."""

    def __init__(self, emr):
        self.emr = emr

    def run_job_flow(self, **request):
        self.emr.run_job_flow(**request)
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1")

    def add_job_flow_steps(self, **request):
        self.emr.add_job_flow_steps(**request)
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1")


STEP = spark_step("train r1", code=("s3://l/c.zip", "s3://l/j.py"), arguments=("train",), workers=2)


def test_a_second_try_joins_the_cluster_of_the_first(emr, request_):
    first = clusters.ensure_cluster(emr, emr, request_)
    second = clusters.ensure_cluster(emr, emr, request_)
    assert first[1]
    assert second == (first[0], False)
    assert len(clusters.live_clusters(emr, request_["Name"])) == 1


def test_a_lost_answer_makes_no_second_cluster(emr, request_):
    found, created = clusters.ensure_cluster(emr, AnswerLost(emr), request_)
    assert created
    assert clusters.live_clusters(emr, request_["Name"]) == [found]


def test_of_two_clusters_made_at_once_one_stays(emr, request_):
    for _ in range(2):
        emr.run_job_flow(**request_)
    found, _ = clusters.ensure_cluster(emr, emr, request_)
    assert clusters.live_clusters(emr, request_["Name"]) == [found]


def test_the_clusters_of_a_run_are_ended_by_name_and_others_left_alone(emr, request_):
    other = emr.run_job_flow(**(request_ | {"Name": "shardmill-r2"}))["JobFlowId"]
    mine, _ = clusters.ensure_cluster(emr, emr, request_)
    assert clusters.end_clusters(emr, request_["Name"]) == [mine]
    assert clusters.end_clusters(emr, request_["Name"]) == []
    assert clusters.live_clusters(emr, "shardmill-r2") == [other]


def test_the_deadline_of_a_cluster_is_in_its_tags(emr, request_):
    found, _ = clusters.ensure_cluster(emr, emr, request_)
    assert clusters.cluster_deadline(emr, found).isoformat() == "2026-11-21T06:00:00+00:00"


def test_a_retried_step_joins_the_step_that_runs(emr, request_):
    cluster, _ = clusters.ensure_cluster(emr, emr, request_)
    first = clusters.ensure_step(emr, emr, cluster, STEP)
    assert clusters.ensure_step(emr, emr, cluster, STEP) == (first[0], False)


def test_a_lost_answer_adds_no_second_step(emr, request_):
    cluster, _ = clusters.ensure_cluster(emr, emr, request_)
    found, _ = clusters.ensure_step(emr, AnswerLost(emr), cluster, STEP)
    steps = emr.list_steps(ClusterId=cluster)["Steps"]
    assert [step["Id"] for step in steps] == [found]


def test_an_image_that_is_not_there_is_refused_by_field(emr):
    ec2 = boto3.client("ec2", region_name="us-east-1")
    with pytest.raises(clusters.RefusedError, match="image_id"):
        clusters.check_image(ec2, "ami-0123456789abcdef0")


def test_an_account_without_our_image_is_told_to_bake_one(emr):
    ec2 = boto3.client("ec2", region_name="us-east-1")
    with pytest.raises(clusters.RefusedError, match="bake one or name one"):
        clusters.newest_image(ec2)


def test_the_size_of_a_node_is_ec2s_word(emr):
    ec2 = boto3.client("ec2", region_name="us-east-1")
    assert clusters.node_size(ec2, "m5.2xlarge") == NodeSize(cores=8, memory_mib=32768)


def test_an_instance_type_that_ec2_does_not_know_is_refused(emr):
    with pytest.raises(clusters.RefusedError, match=r"split_type: .*m5\.3xlarge"):
        clusters.node_size(boto3.client("ec2", region_name="us-east-1"), "m5.3xlarge")
