"""Every request that the operators and the plan send to EMR, EC2, IAM and S3 fits botocore's model of the service.

The clients are botocore's own, which check a request before they send it; what they would send is answered here.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ParamValidationError

from shardmill.adapters import account_checks
from shardmill.adapters import emr as clusters
from shardmill.core.account_rules import Needs
from shardmill.core.emr_request import cluster_request, dist_cp_step, node_scripts, spark_step
from shardmill.specs.cluster import BootstrapAction, ClusterSpec

ADAPTERS = Path(clusters.__file__).parents[1]
SERVICES = ("emr", "ec2", "iam", "s3", "service-quotas")
NOW = datetime(2026, 11, 21, tzinfo=UTC)
TAGS = [{"Key": "shardmill", "Value": "run"}, {"Key": "deadline", "Value": NOW.isoformat()}]
STATUS = {"State": "RUNNING", "Timeline": {"CreationDateTime": NOW}, "StateChangeReason": {}}
ANSWERS: dict[str, dict[str, Any]] = {
    "ListClusters": {"Clusters": [{"Id": f"j-{n}", "Name": "shardmill-other", "Status": STATUS} for n in range(2)]},
    "DescribeCluster": {"Cluster": {"Status": STATUS, "Tags": TAGS, "LogUri": "s3://l/logs"}},
    "RunJobFlow": {"JobFlowId": "j-1"},
    "SetTerminationProtection": {},
    "TerminateJobFlows": {},
    "ListSteps": {"Steps": [{"Id": f"s-{n}", "Name": "open", "Status": STATUS} for n in range(2)]},
    "AddJobFlowSteps": {"StepIds": ["s-1"]},
    "DescribeStep": {"Step": {"Status": STATUS}},
    "CancelSteps": {},
    "ListReleaseLabels": {"ReleaseLabels": ["emr-7.13.0"]},
    "ListSupportedInstanceTypes": {"SupportedInstanceTypes": [{"Type": "m5.xlarge"}]},
    "DescribeImages": {"Images": [{"ImageId": "ami-0123456789abcdef0", "State": "available"}]},
    "DescribeInstanceTypes": {
        "InstanceTypes": [
            {
                "InstanceType": "g4dn.xlarge",
                "VCpuInfo": {"DefaultVCpus": 4},
                "MemoryInfo": {"SizeInMiB": 16384},
                "GpuInfo": {"Gpus": [{"Manufacturer": "NVIDIA", "Count": 1}, {"Manufacturer": "AMD", "Count": 2}]},
            }
        ]
    },
    "DescribeInstanceTypeOfferings": {"InstanceTypeOfferings": [{"InstanceType": "m5.xlarge"}]},
    "DescribeInstances": {"Reservations": [{"Instances": [{"InstanceType": "g4dn.xlarge"}]}]},
    "DescribeSubnets": {"Subnets": [{"State": "available", "AvailableIpAddressCount": 9}]},
    "ListServiceQuotas": {"Quotas": []},
    "GetRole": {"Role": {"AssumeRolePolicyDocument": "%7B%7D"}},
    "GetInstanceProfile": {"InstanceProfile": {"Roles": []}},
    "HeadBucket": {},
    "ListObjectsV2": {},
}


class Aws:
    """Clients of boto3 that send nothing, and the operations whose requests they found right."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.clients = {service: self._client(service) for service in SERVICES}

    def _client(self, service: str) -> Any:
        made = boto3.client(service, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")

        def answer(model: Any, **_: Any) -> tuple[Any, dict[str, Any]]:
            self.seen.add(model.name)
            return SimpleNamespace(status_code=200), ANSWERS[model.name]

        made.meta.events.register(f"before-call.{service}", answer)
        return made


@pytest.fixture
def aws() -> Aws:
    return Aws()


def requests_() -> list[dict[str, Any]]:
    base = ClusterSpec(
        name="shardmill-r1",
        run="video_pipeline.r1",
        image_id="ami-0123456789abcdef0",
        log_uri="s3://l/logs",
        event_logs="s3://l/spark-events",
        deadline=NOW.isoformat(),
        subnet_id="subnet-01234567",
        bootstrap=tuple(
            BootstrapAction(name=name, path=f"s3://l/{name}", arguments=arguments)
            for name, arguments in node_scripts(NOW.isoformat(), gpus=True).items()
        ),
    )
    return [
        cluster_request(base.model_copy(update={"nodes": nodes, "spot_count": 2})) for nodes in ("groups", "fleets")
    ]


def work_with_clusters(aws: Aws) -> None:
    emr, ec2 = aws.clients["emr"], aws.clients["ec2"]
    for request in requests_():
        clusters.ensure_cluster(emr, emr, request)
    clusters.cluster_lives(emr, "shardmill-other", NOW)
    clusters.cluster_status(emr, "j-1")
    clusters.cluster_deadline(emr, "j-1")
    clusters.end_surplus(emr, "shardmill-other")
    clusters.end_clusters(emr, "shardmill-r1", {"shardmill": "run"})
    spark = spark_step("train r1", code=("s3://l/c", "s3://l/j"), arguments=("train",), workers=2, seconds=60)
    for step in (spark, dist_cp_step("copy r1", "s3://l/features", "hdfs:///r1")):
        clusters.ensure_step(emr, emr, "j-1", step)
    clusters.step_status(emr, "j-1", "s-1")
    clusters.cancel_step(emr, "j-1", "s-1")
    clusters.newest_image(ec2)
    clusters.node_size(ec2, "g4dn.xlarge")


def look_at_the_account(aws: Aws) -> None:
    first, *_ = requests_()
    account_checks.look_at_account(aws.clients.__getitem__, Needs({"train": first}, {"l": "lake"}))


def operations_named_in(*files: Path) -> set[str]:
    """Give the operations of AWS that files call, or page through, by their methods' names."""
    names: dict[str, str] = {}
    for client in Aws().clients.values():
        names |= client.meta.method_to_api_mapping
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in names:
                found.add(names[node.attr])
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names:
                found.add(names[node.value])
    return found


@pytest.mark.parametrize(
    ("work", "files"),
    [
        (work_with_clusters, sorted((ADAPTERS / "emr").glob("*.py"))),
        (look_at_the_account, [ADAPTERS / "account_checks.py"]),
    ],
)
def test_each_operation_that_is_called_was_asked_for_as_its_service_wants(
    aws: Aws, work: Callable[[Aws], None], files: list[Path]
) -> None:
    work(aws)
    expected = operations_named_in(*files)
    assert expected <= aws.seen, "a call was added: let this test make it too"
    assert expected


def test_a_request_that_does_not_fit_is_found(aws):
    request = requests_()[0] | {"EbsRootVolumeSize": "40"}
    with pytest.raises(ParamValidationError, match="EbsRootVolumeSize"):
        aws.clients["emr"].run_job_flow(**request)
    assert "RunJobFlow" not in aws.seen


def test_of_the_gpus_of_a_type_nvidias_are_counted(aws):
    assert clusters.node_size(aws.clients["ec2"], "g4dn.xlarge").gpus == 1
