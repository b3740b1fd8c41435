from __future__ import annotations

from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from shardmill.adapters import emr as clusters
from shardmill.adapters.emr import calls
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
    for _ in range(3):
        emr.run_job_flow(**request_)
    found, created = clusters.ensure_cluster(emr, emr, request_)
    surplus = clusters.end_surplus(emr, request_["Name"])
    assert not created
    assert len(surplus) == 2
    assert clusters.live_clusters(emr, request_["Name"]) == [found]
    assert clusters.end_surplus(emr, request_["Name"]) == ()


def test_the_clusters_of_a_run_are_ended_by_name_and_others_left_alone(emr, request_):
    other = emr.run_job_flow(**(request_ | {"Name": "shardmill-r2"}))["JobFlowId"]
    mine, _ = clusters.ensure_cluster(emr, emr, request_)
    assert clusters.end_clusters(emr, request_["Name"]) == [mine]
    assert clusters.end_clusters(emr, request_["Name"]) == []
    assert clusters.live_clusters(emr, "shardmill-r2") == [other]


def test_a_cluster_of_the_run_is_ended_by_its_tags_whatever_its_name_is(emr, request_):
    renamed = emr.run_job_flow(**(request_ | {"Name": "shardmill-r1-again"}))["JobFlowId"]
    foreign = emr.run_job_flow(**(request_ | {"Name": "somebody-else"}))["JobFlowId"]
    tags = {"shardmill": "run", "run": "r1", "work": "train"}
    assert clusters.end_clusters(emr, "shardmill-r1", tags | {"work": "split"}) == []
    assert clusters.end_clusters(emr, "shardmill-r1", tags) == [renamed]
    assert clusters.live_clusters(emr, "somebody-else") == [foreign]


def test_a_protected_cluster_is_ended_too(emr, request_):
    mine, _ = clusters.ensure_cluster(emr, emr, request_)
    emr.set_termination_protection(JobFlowIds=[mine], TerminationProtected=True)
    assert clusters.end_clusters(emr, request_["Name"]) == [mine]
    assert clusters.live_clusters(emr, request_["Name"]) == []


def test_all_clusters_of_a_run_are_told_of_the_ended_ones_too(emr, request_):
    before = datetime.now(UTC) - timedelta(minutes=1)
    first, _ = clusters.ensure_cluster(emr, emr, request_)
    clusters.terminate(emr, [first])
    second, _ = clusters.ensure_cluster(emr, emr, request_)
    lives = clusters.cluster_lives(emr, request_["Name"], before)
    assert [(life.id, life.alive) for life in lives] == [(first, False), (second, True)]
    assert lives[1].deadline == datetime(2026, 11, 21, 6, tzinfo=UTC)
    assert lives[1].log_uri == "s3://l/logs"
    assert clusters.cluster_lives(emr, request_["Name"], datetime.now(UTC) + timedelta(hours=1)) == []


class Throttled:
    """A client that is told so many times that it asks too often."""

    def __init__(self, emr, times, code="ThrottlingException"):
        self.emr, self.times, self.calls, self.code = emr, times, 0, code

    def run_job_flow(self, **request):
        self.calls += 1
        if self.calls <= self.times:
            raise ClientError({"Error": {"Code": self.code, "Message": "Rate exceeded"}}, "RunJobFlow")
        return self.emr.run_job_flow(**request)


def test_a_throttled_request_is_sent_again_for_it_made_nothing(emr, request_, monkeypatch):
    monkeypatch.setattr(calls, "PAUSES", (0.0, 0.0))
    throttled = Throttled(emr, 2)
    found, created = clusters.ensure_cluster(emr, throttled, request_)
    assert (created, throttled.calls) == (True, 3)
    assert clusters.live_clusters(emr, request_["Name"]) == [found]


def test_a_throttled_request_is_given_up_in_the_end(emr, request_, monkeypatch):
    monkeypatch.setattr(calls, "PAUSES", (0.0, 0.0))
    throttled = Throttled(emr, 9)
    with pytest.raises(clusters.ClusterLostError, match="Rate exceeded"):
        clusters.ensure_cluster(emr, throttled, request_)
    assert throttled.calls == 3


def test_a_refusal_says_what_to_do_and_is_not_sent_again(emr, request_):
    refusing = Throttled(emr, 9, "AccessDeniedException")
    with pytest.raises(clusters.RefusedError, match=r"(?s)EMR refused the cluster: Rate.*What to do: give the role"):
        clusters.ensure_cluster(emr, refusing, request_)
    assert refusing.calls == 1


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


def test_of_two_steps_of_a_name_the_younger_is_cancelled(emr, request_):
    cluster, _ = clusters.ensure_cluster(emr, emr, request_)
    first, _ = clusters.ensure_step(emr, emr, cluster, STEP)
    second = emr.add_job_flow_steps(JobFlowId=cluster, Steps=[dict(STEP)])["StepIds"][0]
    noted = Cancelling(emr)
    assert clusters.cancel_surplus(noted, cluster, STEP["Name"]) == [second]
    assert noted.cancelled == [second]
    assert first != second


class Cancelling:
    """Notes what is cancelled: moto has no CancelSteps."""

    def __init__(self, emr):
        self.emr, self.cancelled = emr, []

    def get_paginator(self, name):
        return self.emr.get_paginator(name)

    def cancel_steps(self, **request):
        self.cancelled += request["StepIds"]


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


def test_a_request_that_boto3_does_not_send_is_refused_and_not_taken_for_a_lost_answer(emr, request_):
    with pytest.raises(clusters.RefusedError, match=r"(?s)the cluster is not what EMR takes: .*EbsRootVolumeSize"):
        clusters.ensure_cluster(emr, emr, request_ | {"EbsRootVolumeSize": "forty"})


class Images:
    """An account with images of its own, by id: when each was made, and its tags."""

    def __init__(self, **images):
        self.images = [
            {"ImageId": name, "CreationDate": made, "Tags": [{"Key": key, "Value": tags[key]} for key in tags]}
            for name, (made, tags) in images.items()
        ]

    def describe_images(self, **_):
        return {"Images": self.images}


def test_nodes_with_gpus_start_from_no_image_that_was_baked_without_their_driver():
    images = Images(gpu=("2026-01-01", {"driver": "yes"}), plain=("2026-02-01", {"driver": "no"}))
    assert clusters.newest_image(images) == "plain"
    assert clusters.newest_image(images, gpus=True) == "gpu"
    with pytest.raises(clusters.RefusedError, match="baked without a GPU's driver"):
        clusters.newest_image(Images(plain=("2026-02-01", {"driver": "no"})), gpus=True)


def test_an_older_image_that_was_chosen_again_is_taken_before_a_newer_one():
    again = {"chosen": "2026-03-01T00:00:00+00:00"}
    assert clusters.newest_image(Images(old=("2026-01-01", again), new=("2026-02-01", {}))) == "old"
