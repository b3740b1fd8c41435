"""The reaper that needs no Airflow, as the function that runs on AWS."""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

SOURCE = Path(__file__).resolve().parents[2] / "deploy" / "reaper" / "lambda_function.py"


def later(minutes: float) -> datetime:
    return datetime.now(UTC) + timedelta(minutes=minutes)


@pytest.fixture
def reaper(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
    for name in ("AWS_ENDPOINT_URL", "DRY_RUN", "TOPIC_ARN", "GRACE_MINUTES", "MAX_HOURS"):
        monkeypatch.delenv(name, raising=False)
    spec = importlib.util.spec_from_file_location("lambda_function", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with mock_aws():
        yield module


@pytest.fixture
def emr(reaper):
    return boto3.client("emr")


def make(emr, *, tag: str = "run", minutes: float | None = None, deadline: str = "") -> str:
    """Make a cluster whose deadline is so many minutes from now."""
    text = deadline or ("" if minutes is None else later(minutes).isoformat())
    tags = [{"Key": "shardmill", "Value": tag}] + ([{"Key": "deadline", "Value": text}] if text else [])
    groups = [{"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1}]
    instances = {"InstanceGroups": groups, "KeepJobFlowAliveWhenNoSteps": True}
    return emr.run_job_flow(Name=f"shardmill-{minutes}", Instances=instances, Tags=tags)["JobFlowId"]


def alive(reaper, emr) -> set[str]:
    return set(reaper.live(emr))


def test_clusters_past_their_deadline_and_the_grace_are_ended_and_no_others(reaper, emr):
    late = make(emr, minutes=-11)
    stay = {make(emr, minutes=-9), make(emr, minutes=60), make(emr, tag="other", minutes=-600)}
    told = reaper.handler({}, None)
    assert alive(reaper, emr) == stay
    assert len(told["ended"]) == 1
    assert told["ended"][0].startswith(f"{late}: its deadline was ")


def test_a_second_look_finds_nothing_more_to_end(reaper, emr):
    make(emr, minutes=-11)
    reaper.handler({}, None)
    assert reaper.handler({}, None)["ended"] == []


def test_more_clusters_than_a_page_holds_are_all_ended(reaper, emr):
    for _ in range(55):
        make(emr, minutes=-60)
    assert len(reaper.handler({}, None)["ended"]) == 55
    assert alive(reaper, emr) == set()


@pytest.mark.parametrize("deadline", ["", "tomorrow"])
def test_a_cluster_without_a_readable_deadline_ends_at_an_age(reaper, emr, monkeypatch, deadline):
    forgotten = make(emr, deadline=deadline)
    assert reaper.handler({}, None)["ended"] == []
    monkeypatch.setenv("MAX_HOURS", "0")
    assert [line.split(":")[0] for line in reaper.handler({}, None)["ended"]] == [forgotten]


def test_a_deadline_without_a_zone_is_utc(reaper, emr):
    make(emr, deadline=later(-11).replace(tzinfo=None).isoformat())
    assert len(reaper.handler({}, None)["ended"]) == 1


def test_a_protected_cluster_is_ended_too(reaper, emr):
    late = make(emr, minutes=-60)
    emr.set_termination_protection(JobFlowIds=[late], TerminationProtected=True)
    reaper.handler({}, None)
    assert alive(reaper, emr) == set()


def test_a_dry_run_says_what_would_end_and_ends_nothing(reaper, emr, monkeypatch, capsys):
    late = make(emr, minutes=-60)
    monkeypatch.setenv("DRY_RUN", "true")
    assert reaper.handler({}, None)["dry_run"] is True
    assert alive(reaper, emr) == {late}
    assert f"would end {late}" in capsys.readouterr().out


def test_instances_of_bakes_past_their_deadline_are_ended_and_no_others(reaper):
    ec2 = boto3.client("ec2")

    def launch(value: str, minutes: float) -> str:
        tags = {"shardmill": value, "deadline": later(minutes).isoformat()}
        pairs = [{"Key": key, "Value": text} for key, text in tags.items()]
        request = {"ImageId": "ami-0123456789abcdef0", "MinCount": 1, "MaxCount": 1, "InstanceType": "m5.large"}
        made = ec2.run_instances(**request, TagSpecifications=[{"ResourceType": "instance", "Tags": pairs}])
        return made["Instances"][0]["InstanceId"]

    running, stopped = launch("bake", -60), launch("bake", -60)
    ec2.stop_instances(InstanceIds=[stopped])
    stay = {launch("bake", 60), launch("bake", -5), launch("run", -60), launch("other", -600)}
    assert {line.split(":")[0] for line in reaper.handler({}, None)["ended"]} == {running, stopped}
    reservations = ec2.describe_instances()["Reservations"]
    states = {one["InstanceId"]: one["State"]["Name"] for held in reservations for one in held["Instances"]}
    assert {name for name, state in states.items() if state == "running"} == stay


class Refusing:
    """EMR that lets nobody end one cluster."""

    def __init__(self, emr, cluster_id):
        self._emr, self._cluster_id = emr, cluster_id

    def __getattr__(self, name):
        return getattr(self._emr, name)

    def terminate_job_flows(self, JobFlowIds):  # noqa: N803
        if self._cluster_id in JobFlowIds:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "TerminateJobFlows")
        return self._emr.terminate_job_flows(JobFlowIds=JobFlowIds)


def test_a_cluster_that_cannot_be_ended_keeps_no_other_alive_and_fails_the_function(reaper, emr, monkeypatch, capsys):
    stuck, _ = make(emr, minutes=-60), make(emr, minutes=-60)
    clients = {"emr": Refusing(emr, stuck), "ec2": boto3.client("ec2")}
    monkeypatch.setattr(reaper.boto3, "client", lambda service: clients[service])
    with pytest.raises(RuntimeError, match=stuck):
        reaper.handler({}, None)
    assert alive(reaper, emr) == {stuck}
    assert f"FAILED {stuck}" in capsys.readouterr().out


def test_what_was_ended_is_told_to_the_topic_and_nothing_where_nothing_was(reaper, emr, monkeypatch):
    sns, sqs = boto3.client("sns"), boto3.client("sqs")
    topic = sns.create_topic(Name="alarms")["TopicArn"]
    queue = sqs.create_queue(QueueName="heard")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    monkeypatch.setenv("TOPIC_ARN", topic)
    reaper.handler({}, None)
    assert "Messages" not in sqs.receive_message(QueueUrl=queue)
    late = make(emr, minutes=-60)
    reaper.handler({}, None)
    (message,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    assert f"ended {late}" in message["Body"]
