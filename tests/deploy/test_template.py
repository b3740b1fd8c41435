"""The CloudFormation template: that it is one, and that its roles may do what is done and no more."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy.aws_calls import called, operations

from shardmill.core.emr_request import security_configuration

PROJECT = Path(__file__).resolve().parents[2]
TEMPLATE = PROJECT / "deploy" / "shardmill.yaml"
REAPER = PROJECT / "deploy" / "reaper"
IMPLIED = {
    "sns:Publish": "Airflow's notifier, where a form names a topic",
    "elasticmapreduce:AddTags": "RunJobFlow with tags",
    "elasticmapreduce:PutAutoTerminationPolicy": "RunJobFlow with an auto-termination policy",
    "iam:PassRole": "RunJobFlow with roles",
    "iam:CreateServiceLinkedRole": "the first RunJobFlow of an account",
}
"""What AWS asks for besides the operation that is called."""
NOT_AWS = {"elasticmapreduce:GetSession"}
"""Names that something else has too: Airflow's hook gives a session."""
BY_THE_STORE = {"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket", "s3:AbortMultipartUpload"}
"""What the store does without boto3."""
READING = ("Describe", "Get", "List")
NOT_THERE_YET = {"elasticmapreduce:RunJobFlow"}
"""Mutating actions for which IAM knows no resource; they need a condition instead."""


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short functions as ``{"Ref": …}``, ``{"Fn::Sub": …}``."""


def _function(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix == "Ref" else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    return {name: loader.construct_sequence(node, deep=True)}


_Loader.add_multi_constructor("!", _function)


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return yaml.load(TEMPLATE.read_text(), Loader=_Loader)  # noqa: S506  (a safe loader, and our own file)


def statements(resource: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Give the statements of a role or of a policy, those too that stand under a condition of the template."""
    properties = resource["Properties"]
    documents = [policy["PolicyDocument"] for policy in properties.get("Policies", ())]
    for document in documents or [properties["PolicyDocument"]]:
        for statement in document["Statement"]:
            yield statement["Fn::If"][1] if "Fn::If" in statement else statement


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def actions(*resources: dict[str, Any]) -> set[str]:
    return {
        action for resource in resources for statement in statements(resource) for action in listed(statement["Action"])
    }


def test_the_template_has_no_complaint_of_cfn_lint():
    done = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), "--include-checks", "I", "--", TEMPLATE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_reaper_in_the_template_is_the_one_that_is_tested(template):
    code = template["Resources"]["Reaper"]["Properties"]["Code"]["ZipFile"]
    assert code == (REAPER / "lambda_function.py").read_text()
    assert len(code) <= 4096, "CloudFormation takes no longer one"
    assert template["Resources"]["Reaper"]["Properties"]["Handler"] == "index.handler"


def test_airflow_may_do_all_that_the_code_calls_and_nothing_else(template):
    known = operations()
    found: dict[str, str] = {}
    for folder in ("include/shardmill/adapters", "include/shardmill/jobs", "plugins/shardmill_airflow", "dags"):
        found |= called(PROJECT / folder, known)
    needed = (set(found) - NOT_AWS) | BY_THE_STORE
    resources = template["Resources"]
    allowed = actions(*(resources[name] for name in ("AirflowPolicy", "BakePolicy", "LakePolicy")))
    assert {action: found.get(action, "the store") for action in needed - allowed} == {}, "called, but not allowed"
    assert allowed - needed - set(IMPLIED) - {"s3:GetBucketLocation"} == set(), "allowed, but not called"


def test_a_call_without_a_permission_is_noticed(tmp_path):
    (tmp_path / "module.py").write_text("def f(emr):\n    emr.modify_cluster(ClusterId='j')\n    g('create_image')\n")
    assert set(called(tmp_path, operations())) == {"elasticmapreduce:ModifyCluster", "ec2:CreateImage"}


def test_the_reaper_may_do_what_it_calls_and_nothing_else(template):
    needed = set(called(REAPER, operations()))
    writing = {"logs:CreateLogStream", "logs:PutLogEvents", "sns:Publish"}
    assert actions(template["Resources"]["ReaperRole"]) == needed | writing


def policies(template: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::IAM::ManagedPolicy" or "Policies" in resource.get("Properties", {}):
            for statement in statements(resource):
                yield f"{name}.{statement['Sid']}", statement


def test_nothing_that_changes_something_is_allowed_on_everything(template):
    for name, statement in policies(template):
        changing = {action for action in listed(statement["Action"]) if not action.split(":")[1].startswith(READING)}
        if changing and "*" in listed(statement["Resource"]):
            assert changing <= NOT_THERE_YET, name
            assert statement.get("Condition"), name


def test_no_policy_allows_whole_services(template):
    for name, statement in policies(template):
        assert not [action for action in listed(statement["Action"]) if "*" in action], name


def test_only_what_carries_our_tag_is_ended(template):
    ending = {
        "elasticmapreduce:TerminateJobFlows",
        "ec2:TerminateInstances",
        "ec2:DeregisterImage",
        "ec2:DeleteSnapshot",
    }
    found = set()
    for name, statement in policies(template):
        if ending & set(listed(statement["Action"])):
            found |= ending & set(listed(statement["Action"]))
            values = listed(statement["Condition"]["StringEquals"]["aws:ResourceTag/shardmill"])
            assert set(values) <= {"run", "bake", "cluster"}, name
    assert found == ending


def test_nothing_is_made_while_an_image_is_baked_without_our_tag(template):
    made = {"ec2:RunInstances": {"instance", "volume"}, "ec2:CreateImage": {"image", "snapshot"}}
    found: dict[str, set[str]] = {action: set() for action in made}
    for statement in statements(template["Resources"]["BakePolicy"]):
        if statement["Action"] in made and "aws:RequestTag/shardmill" in str(statement.get("Condition")):
            assert statement["Condition"]["StringEquals"] == {"aws:RequestTag/shardmill": "bake"}
            found[statement["Action"]] |= {
                one["Fn::Sub"].split(":")[-1].split("/")[0] for one in listed(statement["Resource"])
            }
    assert found == made


def test_every_bucket_is_encrypted_closed_to_the_public_and_reached_by_tls_only(template):
    resources = template["Resources"]
    buckets = {name: one["Properties"] for name, one in resources.items() if one["Type"] == "AWS::S3::Bucket"}
    policies_of = {
        one["Properties"]["Bucket"]["Ref"]: list(statements(one))
        for one in resources.values()
        if one["Type"] == "AWS::S3::BucketPolicy"
    }
    assert set(buckets) == {"LakeBucket", "LogBucket"}
    for name, bucket in buckets.items():
        assert resources[name]["DeletionPolicy"] == "Retain"
        assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert all(bucket["PublicAccessBlockConfiguration"].values())
        assert len(bucket["PublicAccessBlockConfiguration"]) == 4
        rules = bucket["LifecycleConfiguration"]["Rules"]
        assert any(rule.get("AbortIncompleteMultipartUpload") for rule in rules)
        (tls,) = (one for one in policies_of[name] if one["Effect"] == "Deny")
        assert tls["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        assert tls["Action"] == "s3:*"


def test_nodes_take_version_2_of_the_metadata_service_only(template):
    asked = template["Resources"]["SecurityConfiguration"]["Properties"]["SecurityConfiguration"]
    assert asked["InstanceMetadataServiceConfiguration"]["MinimumInstanceMetadataServiceVersion"] == 2
    assert asked == security_configuration()


def test_the_reaper_is_called_every_15_minutes(template):
    rule = template["Resources"]["ReaperClock"]["Properties"]
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(15 minutes)", "ENABLED")
