from __future__ import annotations

from typing import Any

import pytest

from shardmill.core.emr_request import cluster_request
from shardmill.localcloud.emr_state import Cluster, Step
from shardmill.localcloud.refusals import Holdings, RefusedError, check_cluster, check_new_steps
from shardmill.specs.cluster import ClusterSpec

IMAGE = "ami-0123456789abcdef0"
HOLDINGS = Holdings({IMAGE: 20}, frozenset({"EMR_DefaultRole"}), frozenset({"EMR_EC2_DefaultRole"}))
SPEC = ClusterSpec(
    name="c", run="r", image_id=IMAGE, log_uri="s3://shardmill-logs/emr", deadline="2026-11-21T00:00:00+00:00"
)


def request(**changes: Any) -> dict[str, Any]:
    return {**cluster_request(SPEC), **changes}


def groups(*types: str) -> dict[str, Any]:
    roles = ("MASTER", "CORE", "TASK")
    made = [
        {"InstanceRole": role, "InstanceType": name, "InstanceCount": 1}
        for role, name in zip(roles, types, strict=False)
    ]
    return {"InstanceGroups": made}


def test_what_the_pipeline_asks_for_is_taken() -> None:
    check_cluster(request(), HOLDINGS)


@pytest.mark.parametrize("label", ["emr-6.15.0", "emr-7.0.0", "emr-7.13.0", "emr-spark-8.0.0"])
def test_known_releases_are_taken(label: str) -> None:
    check_cluster(request(ReleaseLabel=label, Instances=groups("m5.xlarge", "g4dn.xlarge")), HOLDINGS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"CustomAmiId": "ami-00000000000000000"}, "custom AMI ami-00000000000000000 does not exist"),
        ({"ReleaseLabel": "emr-9.9.9"}, "release label is invalid: emr-9.9.9"),
        ({"ReleaseLabel": None}, "release label is invalid"),
        ({"Instances": groups("m5.xlarge", "p2.xlarge")}, "'p2.xlarge' is retired"),
        ({"Instances": groups("m5.xlarge", "p3.2xlarge")}, "'p3.2xlarge' is retired"),
        ({"Instances": groups("g3.4xlarge")}, "'g3.4xlarge' is retired"),
        ({"Instances": groups("m5.xlarge", "m99.xlarge")}, "'m99.xlarge' is not supported"),
        ({"Instances": {}}, "specify InstanceGroups"),
        ({"Instances": {"InstanceGroups": groups("m5.xlarge", "m5.xlarge")["InstanceGroups"][1:]}}, "one MASTER"),
        ({"ServiceRole": "Nobody"}, "Invalid ServiceRole: Nobody"),
        ({"JobFlowRole": "Nobody"}, "Invalid InstanceProfile: Nobody"),
        ({"EbsRootVolumeSize": 15}, "needs at least 20 GiB"),
        ({"AutoTerminationPolicy": {"IdleTimeout": 59}}, "between 60 and 604800"),
        ({"StepConcurrencyLevel": 257}, "between 1 and 256"),
        ({"AmiVersion": "3.1"}, "use ReleaseLabel"),
    ],
)
def test_what_aws_refuses_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedError, match=words) as refused:
        check_cluster(request(**changes), HOLDINGS)
    assert refused.value.code == "ValidationException"


def test_with_concurrent_steps_only_continue_is_allowed() -> None:
    up = Cluster("j-1", {}, 0.0, concurrency=2)
    for action in ("CANCEL_AND_WAIT", "TERMINATE_CLUSTER"):
        with pytest.raises(RefusedError, match=f"{action} is not valid"):
            check_new_steps(up, [{"Name": "s", "ActionOnFailure": action}])
    check_new_steps(up, [{"Name": "s", "ActionOnFailure": "CONTINUE"}])


def test_a_cluster_that_ends_takes_no_steps() -> None:
    for state in ("TERMINATING", "TERMINATED", "TERMINATED_WITH_ERRORS"):
        with pytest.raises(RefusedError, match="shutting down, terminated, or finished"):
            check_new_steps(Cluster("j-1", {}, 0.0, state=state), [{"Name": "s"}])


def test_at_most_256_steps_wait_or_run() -> None:
    steps = tuple(Step(f"s-{n}", "s", "j", (), 0.0) for n in range(256))
    with pytest.raises(RefusedError, match="Maximum number of active steps"):
        check_new_steps(Cluster("j-1", {}, 0.0, steps, state="RUNNING"), [{"Name": "s"}])
