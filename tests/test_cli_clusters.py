from __future__ import annotations

import boto3
import pytest
from moto import mock_aws

from shardmill.cli import main

GROUPS = [{"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1}]


@pytest.fixture
def account(monkeypatch, tmp_path):
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with mock_aws():
        yield


def test_the_clusters_that_are_alive_are_listed_with_owner_and_cost(account, capsys):
    tags = [{"Key": key, "Value": value} for key, value in (("shardmill", "run"), ("owner", "ann"), ("run", "dag.r1"))]
    instances = {"InstanceGroups": GROUPS, "KeepJobFlowAliveWhenNoSteps": True}
    emr = boto3.client("emr", region_name="us-east-1")
    made = emr.run_job_flow(Name="shardmill-dag.r1", Instances=instances, Tags=tags)["JobFlowId"]
    assert main(["clusters", "--region", "us-east-1"]) == 0
    heading, row, summary = capsys.readouterr().out.strip().splitlines()
    assert heading.startswith("cluster ")
    assert row.startswith(made)
    assert "ann / dag.r1" in row
    assert summary.startswith("1 cluster alive, 0.0")


def test_without_a_region_it_says_what_is_missing(account, capsys):
    assert main(["clusters"]) == 1
    assert "region" in capsys.readouterr().err
