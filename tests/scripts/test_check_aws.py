"""The check of a real account: what it refuses, its dry run, and the whole of it against the local AWS."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest

from shardmill.localcloud.launch import local_cloud

PROJECT = Path(__file__).resolve().parents[2]
SCRIPTS = PROJECT / "scripts"
sys.path.insert(0, str(SCRIPTS))
import check_aws  # noqa: E402
import check_aws_cluster  # noqa: E402

SERVICE_ROLE, PROFILE = "shardmill-emr-service", "shardmill-emr-node"
OURS = ["--service-role", SERVICE_ROLE, "--instance-profile", PROFILE, "--poll-seconds", "0.2"]


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """Write AWS' configuration with a profile ``check``; give a function that writes another."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))

    def write(**settings: str) -> None:
        lines = [f"{key} = {value}" for key, value in settings.items()]
        (tmp_path / "config").write_text("\n".join(["[profile check]", *lines, ""]))
        (tmp_path / "credentials").write_text("[check]\naws_access_key_id = testing\naws_secret_access_key = testing\n")

    # Nobody answers there: a refusal comes before anybody is asked.
    write(region="us-east-1", endpoint_url="http://127.0.0.1:9")
    return write


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "MAX_USD: expected a number"),
        (["--max-usd", "two"], "MAX_USD: expected a number such as 2, found 'two'"),
        (["--max-usd", "0"], "MAX_USD: expected a number above 0"),
        (["--max-usd", "nan"], "MAX_USD: expected a number above 0"),
        (["--max-usd", "2"], "PROFILE: name a profile"),
        (["--max-usd", "2", "--profile", "nobody"], "PROFILE: .*nobody"),
        (["--max-usd", "2", "--profile", "check", "--region", "eu-west-1"], "REGION: eu-west-1, but .* us-east-1"),
        (["--max-usd", "0.01", "--profile", "check"], "MAX_USD: 0.01, but 50 minutes of m5.xlarge cost up to 0.2"),
        (
            ["--max-usd", "2", "--profile", "check", "--instance-type", "m7i.large"],
            r"MAX_USD: no price known for instance_hour\.m7i\.large",
        ),
        (["--max-usd", "2", "--profile", "check", "--lake", "gs://b"], "LAKE: expected s3://"),
    ],
)
def test_what_is_missing_or_wrong_is_refused_by_name_before_anybody_is_asked(configured, capsys, arguments, told):
    assert check_aws.main(arguments) == 2
    found = capsys.readouterr().err
    assert found.startswith("refused, nothing was made: ")
    assert re.search(told, found), found


def test_a_profile_without_a_region_is_refused(configured, capsys):
    configured(endpoint_url="http://127.0.0.1:9")
    assert check_aws.main(["--max-usd", "2", "--profile", "check"]) == 2
    assert "REGION: " in capsys.readouterr().err


def test_prices_of_another_region_are_no_prices(configured, capsys):
    configured(region="eu-west-1", endpoint_url="http://127.0.0.1:9")
    assert check_aws.main(["--max-usd", "2", "--profile", "check"]) == 2
    assert "no price known for all prices: they are those of us-east-1" in capsys.readouterr().err


def test_an_account_that_does_not_answer_is_told_as_that(configured, capsys, monkeypatch):
    monkeypatch.setattr(check_aws, "ATTEMPTS", 1)
    assert check_aws.main(["--max-usd", "2", "--profile", "check"]) == 1
    assert "the account was not looked at, nothing was made" in capsys.readouterr().err


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with local_cloud(tmp_path_factory.mktemp("check-aws")) as found:
        yield found


def client(cloud, service: str):
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return boto3.client(service, endpoint_url=cloud.endpoint, region_name="us-east-1", **keys)


@pytest.fixture(scope="module")
def roles(cloud):
    iam = client(cloud, "iam")
    for name, service in ((SERVICE_ROLE, "elasticmapreduce.amazonaws.com"), (PROFILE, "ec2.amazonaws.com")):
        statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Statement": [statement]}))
    iam.create_instance_profile(InstanceProfileName=PROFILE)
    iam.add_role_to_instance_profile(InstanceProfileName=PROFILE, RoleName=PROFILE)


@pytest.fixture
def faults(cloud):
    def switch(*faults: dict) -> None:
        request = urllib.request.Request(  # noqa: S310  (loopback)
            f"{cloud.endpoint}/_faults", data=json.dumps(faults).encode(), method="PUT"
        )
        urllib.request.urlopen(request).close()  # noqa: S310

    yield switch
    switch()


def check(cloud, configured, *arguments: str, **options) -> subprocess.Popen[str]:
    """Start the check as `make check-aws` does."""
    configured(region="us-east-1", endpoint_url=cloud.endpoint)
    command = [sys.executable, SCRIPTS / "check_aws.py", "--max-usd", "2", "--profile", "check", *OURS, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def checked(cloud, configured, capsys, *arguments: str) -> tuple[int, str]:
    """Do the check within this process, which saves the time to start one; give its exit status and what it told."""
    configured(region="us-east-1", endpoint_url=cloud.endpoint)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        status = check_aws.main(["--max-usd", "2", "--profile", "check", *OURS, *arguments])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    told = capsys.readouterr()
    return status, told.out + told.err


def clusters(cloud) -> list[dict]:
    return client(cloud, "emr").list_clusters()["Clusters"]


def alive(cloud) -> list[str]:
    return [one["Id"] for one in clusters(cloud) if not one["Status"]["State"].startswith("TERMINAT")]


def test_a_dry_run_plans_prices_and_checks_and_makes_nothing(cloud, configured, roles):
    before = len(clusters(cloud))
    process = check(cloud, configured, "--dry-run", "1", "--lake", "s3://shardmill-lake")
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert "account 123456789012" in told
    assert cloud.endpoint in told
    assert "it costs at most 0.2" in told
    assert "right        EMR release emr-7.13.0" in told
    assert "not checked  quotas of vCPUs" in told
    assert told.rstrip().endswith("DRY_RUN: nothing was made")
    assert len(clusters(cloud)) == before


def test_without_confirm_the_plan_is_shown_and_nothing_is_made(cloud, configured, capsys, roles):
    before = len(clusters(cloud))
    status, told = checked(cloud, configured, capsys)
    assert status == 2
    assert "CONFIRM: this costs money" in told
    assert "it costs at most" in told
    assert len(clusters(cloud)) == before


def test_an_account_that_is_not_fit_is_told_why_and_nothing_is_made(cloud, configured, capsys, roles):
    before = len(clusters(cloud))
    unfit = ["--service-role", "nobody", "--lake", "s3://not-there"]
    status, told = checked(cloud, configured, capsys, "--confirm", "yes", *unfit)
    assert status == 1
    assert "WRONG        service_role: there is no role nobody" in told
    assert "WRONG        lake: there is no bucket not-there" in told
    assert len(clusters(cloud)) == before


def test_a_confirmed_check_makes_a_cluster_runs_a_step_and_ends_it(cloud, configured, capsys, roles, faults):
    faults({"kind": "no_spark", "seconds": 0.2})
    status, told = checked(cloud, configured, capsys, "--confirm", "yes", "--lake", "s3://shardmill-lake")
    assert status == 0, told
    assert "the step completed; " in told
    assert "left over: " in told
    assert alive(cloud) == []
    found = client(cloud, "emr").describe_cluster(ClusterId=clusters(cloud)[0]["Id"])["Cluster"]
    tags = {tag["Key"]: tag["Value"] for tag in found["Tags"]}
    assert (tags["shardmill"], tags["owner"]) == ("run", "check-aws")
    left = datetime.fromisoformat(tags["deadline"]) - datetime.now(UTC)
    assert 20 * 60 < left.total_seconds() <= 30 * 60
    groups = client(cloud, "emr").list_instance_groups(ClusterId=found["Id"])["InstanceGroups"]
    assert [(group["InstanceGroupType"], group["RequestedInstanceCount"]) for group in groups] == [("MASTER", 1)]
    assert client(cloud, "s3").list_objects_v2(Bucket="shardmill-lake", Prefix="checks/shardmill")["KeyCount"] == 0


def test_a_step_that_fails_is_told_and_its_cluster_ended(cloud, configured, capsys, roles, faults):
    faults({"kind": "no_spark", "seconds": 0.2}, {"kind": "step_failure", "text": "the disk is full"})
    status, told = checked(cloud, configured, capsys, "--confirm", "yes", "--lake", "s3://shardmill-lake")
    assert status == 1
    assert "FAILED: step s-" in told
    assert "no cluster of this check is alive" in told
    assert alive(cloud) == []


def test_a_lost_answer_leaves_no_cluster(cloud, configured, capsys, roles, faults):
    faults({"kind": "no_spark", "seconds": 0.2}, {"kind": "lost_answer", "operations": ["RunJobFlow"]})
    status, told = checked(cloud, configured, capsys, "--confirm", "yes", "--lake", "s3://shardmill-lake")
    assert status == 0, told
    assert alive(cloud) == []


def test_who_interrupts_twice_leaves_no_cluster(cloud, configured, roles, faults):
    faults({"kind": "no_spark"}, {"kind": "step_hang"})
    process = check(cloud, configured, "--confirm", "yes", "--lake", "s3://shardmill-lake", bufsize=1)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "step s-" in line or "ending the cluster" in line:
            process.send_signal(2)
    assert process.wait(60) == 130, "".join(lines)
    assert "no cluster of this check is alive" in "".join(lines)
    assert alive(cloud) == []


@pytest.mark.slow
def test_the_whole_check_runs_on_a_real_spark(cloud, configured, roles):
    process = check(cloud, configured, "--confirm", "yes", "--lake", "s3://shardmill-lake")
    told, _ = process.communicate(timeout=280)
    assert process.returncode == 0, told
    assert alive(cloud) == []


def test_without_a_lake_the_step_is_sparks_own_example():
    arguments = check_aws_cluster.smoke_step("check")["HadoopJarStep"]["Args"]
    assert arguments[:3] == ["spark-submit", "--deploy-mode", "client"]
    assert "org.apache.spark.examples.SparkPi" in arguments


def test_the_request_of_an_own_image_names_it_and_one_without_a_lake_has_no_logs():
    from shardmill.specs.cluster import ClusterSpec

    values = {"name": "shardmill-check-1", "run": "check-1", "deadline": "2026-11-21T06:00:00+00:00"}
    image = "ami-0123456789abcdef0"
    asked = ClusterSpec(**values, image_id=image, log_uri=check_aws_cluster.NO_LOGS)
    request = check_aws_cluster.smoke_request(asked)
    assert request["CustomAmiId"] == image
    assert "LogUri" not in request
    asked = ClusterSpec(**values, image_id=check_aws_cluster.NO_IMAGE, log_uri="s3://b/logs")
    request = check_aws_cluster.smoke_request(asked)
    assert "CustomAmiId" not in request
    assert request["LogUri"] == "s3://b/logs"
