from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shardmill.core.emr_request import cluster_request
from shardmill.localcloud.emr_state import Cluster, Step
from shardmill.localcloud.image_refusals import Image
from shardmill.localcloud.refusals import Holdings, check_cluster, check_new_steps
from shardmill.localcloud.releases import instance_types
from shardmill.localcloud.request_refused import RefusedError
from shardmill.specs.cluster import ClusterSpec

IMAGE = "ami-0123456789abcdef0"
HOLDINGS = Holdings({IMAGE: Image(20)}, frozenset({"EMR_DefaultRole"}), frozenset({"EMR_EC2_DefaultRole"}))
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


def fleet(role: str = "CORE", *types: str, **changes: Any) -> dict[str, Any]:
    configs = [{"InstanceType": name} for name in types or ("m5.xlarge",)]
    return {"InstanceFleetType": role, "TargetOnDemandCapacity": 1, "InstanceTypeConfigs": configs, **changes}


def fleets(*others: dict[str, Any]) -> dict[str, Any]:
    return {"Instances": {"InstanceFleets": [fleet("MASTER"), *others]}}


def spot(minutes: int = 20, action: str = "SWITCH_TO_ON_DEMAND", **changes: Any) -> dict[str, Any]:
    asked = {"TimeoutDurationMinutes": minutes, "TimeoutAction": action, **changes}
    return {"TargetOnDemandCapacity": 0, "TargetSpotCapacity": 2, "LaunchSpecifications": {"SpotSpecification": asked}}


TYPES = sorted(name for name in instance_types("emr-7.13.0") if name.startswith(("m5.", "m5a.", "r5.", "c5.", "r5a.")))


def test_fleets_with_spot_task_nodes_are_taken() -> None:
    task = fleet("TASK", *TYPES[:30], **spot(AllocationStrategy="price-capacity-optimized"))
    assert len(TYPES) > 30
    check_cluster(request(**fleets(fleet("CORE"), task)), HOLDINGS)
    check_cluster(request(**fleets(fleet("CORE"), fleet("TASK", *TYPES[:5], **spot(5)))), HOLDINGS)


def test_a_task_group_on_the_spot_market_is_taken() -> None:
    asked = groups("m5.xlarge", "g4dn.xlarge", "g4dn.xlarge")
    asked["InstanceGroups"][2]["Market"] = "SPOT"
    check_cluster(request(Instances=asked), HOLDINGS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Instances": {"InstanceFleets": [fleet("CORE")]}}, "one MASTER instance fleet is required, found 0"),
        (fleets(fleet("TASK")), "A TASK instance fleet needs a CORE"),
        (fleets(fleet("CORE"), fleet("CORE")), "At most one CORE instance fleet"),
        (fleets(fleet("CORE"), fleet("TASK"), fleet("TASK")), "At most one TASK instance fleet"),
        ({"Instances": {**fleets()["Instances"], **groups("m5.xlarge")}}, "mutually exclusive"),
        ({"Instances": {**fleets()["Instances"], "InstanceCount": 3}}, "either InstanceFleets or InstanceCount"),
        ({"Instances": {"InstanceFleets": [fleet("MASTER", TargetOnDemandCapacity=2)]}}, "MASTER instance fleet needs"),
        (fleets(fleet("CORE", TargetOnDemandCapacity=0)), "CORE instance fleet needs a TargetOnDemandCapacity"),
        (fleets(fleet("CORE", *TYPES[:6])), "takes 1 to 5 InstanceTypeConfigs, found 6"),
        (fleets(fleet("CORE", *TYPES[:31], **spot(AllocationStrategy="diversified"))), "takes 1 to 30 .* found 31"),
        (fleets(fleet("CORE", InstanceTypeConfigs=[])), "takes 1 to 5 InstanceTypeConfigs, found 0"),
        (fleets(fleet("CORE", **spot(4))), "between 5 and 1440, found 4"),
        (fleets(fleet("CORE", **spot(1441))), "between 5 and 1440, found 1441"),
        (fleets(fleet("CORE", **spot(action="WAIT"))), "TimeoutAction must be"),
        (fleets(fleet("CORE", **spot(BlockDurationMinutes=60))), "BlockDurationMinutes"),
        (fleets(fleet("CORE", "p3.2xlarge")), "'p3.2xlarge' is retired"),
        (
            fleets(fleet("CORE", InstanceTypeConfigs=[{"InstanceType": "m5.xlarge", "WeightedCapacity": 0}])),
            "at least 1",
        ),
        ({"BootstrapActions": [{}] * 17}, "At most 16 bootstrap actions"),
    ],
)
def test_what_emr_refuses_of_fleets_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        check_cluster(request(**changes), HOLDINGS)


def holding(**changes: Any) -> Holdings:
    return replace(HOLDINGS, images={IMAGE: Image(20, **changes)})


@pytest.mark.parametrize(
    ("image", "changes", "words"),
    [
        ({"virtualization": "paravirtual"}, {}, "virtualization type is paravirtual, not hvm"),
        ({"root_device": "instance-store"}, {}, "root device is instance-store, not ebs"),
        ({"volumes": 2}, {}, "has 2 EBS volumes, expected one"),
        ({"architecture": "i386"}, {}, "has not 64 bits"),
        ({"architecture": "arm64"}, {}, "architecture arm64 .* does not match instance type 'm5.xlarge'"),
        ({"words": "amzn2-ami-hvm-2.0.20260101-x86_64-gp2"}, {}, "is Amazon Linux 2, expected Amazon Linux 2023"),
        ({"words": "amzn-ami-hvm-2018.03.0.20231218-x86_64"}, {}, "is Amazon Linux, expected Amazon Linux 2023"),
        (
            {"words": "al2023-ami-2023.6.20260101.0-kernel-6.1-x86_64"},
            {"ReleaseLabel": "emr-6.15.0"},
            "is Amazon Linux 2023, expected Amazon Linux 2",
        ),
    ],
)
def test_images_that_emr_cannot_use_are_refused(image: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        check_cluster(request(**changes), holding(**image))


def test_an_image_of_each_architecture_may_stand_beside_the_other() -> None:
    arm = "ami-0aaaaaaaaaaaaaaaa"
    both = replace(HOLDINGS, images={IMAGE: Image(20), arm: Image(20, architecture="arm64")})
    asked = groups("m5.xlarge", "m6g.xlarge")
    asked["InstanceGroups"][1]["CustomAmiId"] = arm
    check_cluster(request(Instances=asked), both)
    asked["InstanceGroups"][1]["InstanceType"] = "m5.xlarge"
    with pytest.raises(RefusedError, match="arm64"):
        check_cluster(request(Instances=asked), both)


def test_an_image_of_a_fleets_type_is_checked_too() -> None:
    config = {"InstanceType": "m5.xlarge", "CustomAmiId": "ami-00000000000000000"}
    with pytest.raises(RefusedError, match="does not exist"):
        check_cluster(request(**fleets(fleet("CORE", InstanceTypeConfigs=[config]))), HOLDINGS)


@pytest.mark.parametrize("words", ["al2023-ami-2023.6.20260101.0-kernel-6.1-x86_64", "shardmill-cluster-local", ""])
def test_an_amazon_linux_2023_image_and_one_that_does_not_tell_are_taken(words: str) -> None:
    check_cluster(request(), holding(words=words))
