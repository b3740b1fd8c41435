"""An account is asked before anything is paid for: against the local AWS, and against accounts that say less."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from local_account import local_account, trust_of

from shardmill.adapters.account_checks import answered, look_at_account
from shardmill.core.account import Bucket, Needs, Role, Unanswered
from shardmill.core.account_rules import judge
from shardmill.core.emr_request import cluster_request
from shardmill.core.requested_nodes import NodeType
from shardmill.localcloud.server import REGION
from shardmill.specs.cluster import ClusterSpec


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    """Clients of an account by the service's name."""
    with local_account(tmp_path_factory.mktemp("s3")) as (client, _):
        iam = client("iam")
        iam.create_role(RoleName="lambda", AssumeRolePolicyDocument=trust_of("lambda.amazonaws.com"))
        iam.create_instance_profile(InstanceProfileName="hollow")
        yield client


def needs_of(*, buckets=None, **changed) -> Needs:
    values = {
        "name": "shardmill-r1",
        "run": "r1",
        "image_id": "ami-0123456789abcdef0",
        "log_uri": "s3://shardmill-lake/logs",
        "deadline": "2026-11-21T12:00:00+00:00",
    }
    return Needs({"train": cluster_request(ClusterSpec(**(values | changed)))}, buckets or {"shardmill-lake": "lake"})


def test_what_the_account_says_is_read_from_every_service(account):
    (subnet,) = account("ec2").describe_subnets()["Subnets"][:1]
    found = look_at_account(account, needs_of(subnet_id=subnet["SubnetId"]))
    assert {"emr-7.13.0", "emr-6.15.0"} <= found.releases
    assert {"m5.xlarge", "g4dn.xlarge"} <= found.supported["emr-7.13.0"]
    assert len(found.supported["emr-7.13.0"]) > 50, "EMR answers page by page"
    assert found.offered == {"m5.xlarge", "g4dn.xlarge"}
    assert found.types == {"m5.xlarge": NodeType(4, False), "g4dn.xlarge": NodeType(4, True)}
    assert found.roles == {"EMR_DefaultRole": Role(frozenset({"elasticmapreduce.amazonaws.com"}))}
    assert found.profiles == {"EMR_EC2_DefaultRole": frozenset({"EMR_EC2_DefaultRole"})}
    assert found.subnets[subnet["SubnetId"]].free_addresses == subnet["AvailableIpAddressCount"]
    assert found.buckets == {"shardmill-lake": Bucket(REGION)}


def test_an_account_that_holds_everything_is_told_to_be_right_and_what_was_not_looked_up_is_said(account):
    findings = judge(look_at_account(account, needs_of()), needs_of())
    assert findings.refusals == []
    assert findings.right == [
        "EMR release emr-7.13.0",
        "EMR takes m5.xlarge, g4dn.xlarge",
        f"EC2 offers m5.xlarge, g4dn.xlarge in {REGION}",
        "role EMR_DefaultRole",
        "instance profile EMR_EC2_DefaultRole",
        "bucket shardmill-lake",
    ]
    assert len(findings.not_checked) == 1
    assert findings.not_checked[0].startswith("quotas of vCPUs: ListServiceQuotas is not served here")


def test_all_that_is_wrong_is_told_at_once_each_with_its_field(account):
    needs = needs_of(
        release_label="emr-7.99.0",
        core_type="g2.2xlarge",
        master_type="m5.xlarge",
        service_role="lambda",
        instance_profile="nobody",
        subnet_id="subnet-0123456789abcdef0",
        buckets={"nowhere": "lake"},
    )
    refusals = judge(look_at_account(account, needs), needs).refusals
    assert [refusal.partition(":")[0] for refusal in refusals] == [
        "release_label",
        "core_type",
        "service_role",
        "instance_profile",
        "subnet_id",
        "lake",
    ]
    assert "EMR has no release emr-7.99.0 in us-east-1: take one of emr-spark-8.0.0, " in refusals[0]
    assert refusals[1].startswith("core_type: EC2 does not offer g2.2xlarge in us-east-1")
    assert "lambda does not trust elasticmapreduce.amazonaws.com" in refusals[2]


@pytest.mark.parametrize(
    ("kind", "refused_by"),
    [("p3.2xlarge", ["EC2 does not offer p3.2xlarge"]), ("t2.nano", ["EMR does not take t2.nano with emr-7.13.0"])],
)
def test_a_type_must_be_taken_by_emr_and_offered_by_ec2(account, kind, refused_by):
    needs = needs_of(core_type=kind)
    refusals = judge(look_at_account(account, needs), needs).refusals
    assert [
        refusal.partition(": ")[2][: len(why)] for refusal, why in zip(refusals, refused_by, strict=True)
    ] == refused_by


def test_an_instance_profile_without_a_role_is_refused(account):
    needs = needs_of(instance_profile="hollow")
    (refusal,) = judge(look_at_account(account, needs), needs).refusals
    assert refusal.startswith("instance_profile: hollow holds no role")


def test_a_bucket_of_another_region_is_refused(account):
    account("s3").create_bucket(Bucket="far", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    needs = needs_of(buckets={"far": "lake"})
    (refusal,) = judge(look_at_account(account, needs), needs).refusals
    assert refusal.startswith("lake: the bucket far lies in eu-central-1, the clusters run in us-east-1")


def test_what_runs_already_is_counted(account):
    ec2 = account("ec2")
    (image,) = ec2.describe_images(Owners=["self"])["Images"][:1] or [{"ImageId": "ami-12c6146b"}]
    made = ec2.run_instances(ImageId=image["ImageId"], InstanceType="m5.xlarge", MinCount=2, MaxCount=2)["Instances"]
    running = look_at_account(account, needs_of()).running
    ec2.terminate_instances(InstanceIds=[each["InstanceId"] for each in made])
    assert running == {"L-1216C47A": 2 * 4}
    assert look_at_account(account, needs_of()).running == {}


def refusing(code: str, status: int = 400):
    response = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}

    def ask(*arguments, **named):
        raise ClientError(response, "GetThing")

    return ask


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (refusing("AccessDenied", 403), r"GetThing is not allowed to whoever asks \(AccessDenied\)"),
        (refusing("UnauthorizedOperation", 403), "GetThing is not allowed to whoever asks"),
        (refusing("403", 403), "GetThing is not allowed to whoever asks"),
        (refusing("Whatever", 501), r"GetThing is not served here \(Whatever\)"),
    ],
)
def test_what_may_not_be_asked_is_no_failure_and_is_said(ask, why):
    found = answered(ask)
    assert isinstance(found, Unanswered)
    assert re.search(why, found.why)


def test_a_service_without_an_endpoint_is_no_failure():
    def ask():
        raise EndpointConnectionError(endpoint_url="https://servicequotas.eu-central-1.amazonaws.com")

    assert "nobody answers: " in answered(ask).why


@pytest.mark.parametrize("code", ["ThrottlingException", "InternalFailure"])
def test_what_another_try_may_mend_is_raised(code):
    with pytest.raises(ClientError):
        answered(refusing(code, 500))


class Forbidden:
    """A client of an account that allows nothing."""

    meta = SimpleNamespace(region_name=REGION)
    exceptions = SimpleNamespace(NoSuchEntityException=KeyError)

    def get_paginator(self, name):
        return SimpleNamespace(paginate=refusing("AccessDeniedException", 403))

    def __getattr__(self, name):
        return refusing("AccessDeniedException", 403)


def test_an_account_that_allows_no_look_at_all_refuses_nothing_and_every_check_is_named():
    needs = needs_of(subnet_id="subnet-0123456789abcdef0")
    findings = judge(look_at_account(lambda service: Forbidden(), needs), needs)
    assert findings.refusals == []
    assert findings.right == []
    assert [line.partition(":")[0] for line in findings.not_checked] == [
        "EMR release",
        "EMR takes m5.xlarge, g4dn.xlarge",
        "EC2 offers m5.xlarge, g4dn.xlarge",
        "quotas of vCPUs",
        "vCPUs of instance types",
        "role EMR_DefaultRole",
        "instance profile EMR_EC2_DefaultRole",
        "subnet subnet-0123456789abcdef0",
        "bucket shardmill-lake",
    ]
