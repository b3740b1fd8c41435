from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from shardmill.adapters import baking
from shardmill.adapters.emr import RefusedError


def error(code, operation="X"):
    return ClientError({"Error": {"Code": code, "Message": f"{code} it is"}}, operation)


class Ec2:
    """An EC2 that answers each operation with what the test says, and notes what it was asked."""

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []

    def __getattr__(self, operation):
        def call(**arguments):
            self.asked.append((operation, arguments))
            told = self.answers[operation]
            if isinstance(told, Exception):
                raise told
            return told

        return call


def image(name, created, gib=8):
    return {
        "ImageId": f"ami-{name}",
        "Name": name,
        "CreationDate": created,
        "Architecture": "x86_64",
        "RootDeviceName": "/dev/xvda",
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": gib}}, {"DeviceName": "/dev/sdb"}],
    }


def test_the_newest_of_amazons_images_is_the_base():
    images = [image("a", "2026-11-01"), image("c", "2026-11-03", 9), image("b", "2026-11-02")]
    ec2 = Ec2(describe_images={"Images": images})
    found = baking.find_base(ec2, "al2023-ami-2023.*")
    assert (found.image_id, found.root_device, found.root_gib) == ("ami-c", "/dev/xvda", 9)
    assert ec2.asked[0][1]["Owners"] == ["amazon"]
    baking.find_base(ec2, "ami-0123456789abcdef0")
    assert ec2.asked[1][1] == {"ImageIds": ["ami-0123456789abcdef0"]}


@pytest.mark.parametrize("answer", [{"Images": []}, error("InvalidAMIID.NotFound")])
def test_a_base_that_is_not_there_is_refused(answer):
    with pytest.raises(RefusedError, match="base: "):
        baking.find_base(Ec2(describe_images=answer), "ami-0123456789abcdef0")


@pytest.mark.parametrize("code", ["InvalidSubnetID.NotFound", "UnauthorizedOperation", "VcpuLimitExceeded"])
def test_a_launch_that_ec2_refuses_for_good_is_not_tried_again(code):
    with pytest.raises(RefusedError, match=f"EC2 refused the instance: {code} it is"):
        baking.launch(Ec2(run_instances=error(code)), {})


@pytest.mark.parametrize("code", ["InsufficientInstanceCapacity", "RequestLimitExceeded", "InternalError"])
def test_a_launch_that_may_work_later_is(code):
    with pytest.raises(ClientError, match=code):
        baking.launch(Ec2(run_instances=error(code)), {})


def test_what_ec2_does_not_know_yet_is_pending():
    assert baking.instance_state(Ec2(describe_instances=error("InvalidInstanceID.NotFound")), "i-1") == ("pending", "")
    assert baking.image_state(Ec2(describe_images=error("InvalidAMIID.NotFound")), "ami-1") == ("pending", "")
    assert baking.image_state(Ec2(describe_images={"Images": []}), "ami-1") == ("pending", "")
    for look in (baking.instance_state, baking.image_state):
        throttled = error("RequestLimitExceeded")
        with pytest.raises(ClientError, match="RequestLimitExceeded"):
            look(Ec2(describe_instances=throttled, describe_images=throttled), "x")


def test_an_image_of_the_same_name_is_joined():
    found = {"Images": [image("mine", "2026-11-01")]}
    ec2 = Ec2(create_image=error("InvalidAMIName.Duplicate"), describe_images=found)
    assert baking.make_image(ec2, {"Name": "mine", "InstanceId": "i-1"}) == "ami-mine"
    with pytest.raises(RefusedError, match="does not list it among ours"):
        baking.make_image(
            Ec2(create_image=error("InvalidAMIName.Duplicate"), describe_images={"Images": []}), {"Name": "x"}
        )


def test_removing_an_image_goes_on_where_an_earlier_try_came_to():
    ec2 = Ec2(deregister_image=error("InvalidAMIID.Unavailable"), delete_snapshot=error("InvalidSnapshot.NotFound"))
    assert baking.remove_image(ec2, "ami-1", ["snap-1", "snap-2"]) == {}
    assert [name for name, _ in ec2.asked] == ["deregister_image", "delete_snapshot", "delete_snapshot"]


def test_a_snapshot_that_cannot_be_deleted_is_told_and_keeps_no_other():
    ec2 = Ec2(deregister_image={}, delete_snapshot=error("InvalidSnapshot.InUse"))
    left = baking.remove_image(ec2, "ami-1", ["snap-1", "snap-2"])
    assert set(left) == {"snap-1", "snap-2"}
    assert "InvalidSnapshot.InUse it is" in left["snap-1"]


def test_snapshots_of_an_image_that_could_not_be_deregistered_are_left():
    ec2 = Ec2(deregister_image=error("RequestLimitExceeded"))
    assert set(baking.remove_image(ec2, "ami-1", ["snap-1"])) == {"ami-1"}
    assert len(ec2.asked) == 1


class Emr:
    """Two live clusters, one of them from an image of ours."""

    def get_paginator(self, operation):
        assert operation == "list_clusters"
        return self

    def paginate(self, ClusterStates):  # noqa: N803 - boto3's name
        assert "WAITING" in ClusterStates
        assert "TERMINATED" not in ClusterStates
        return [{"Clusters": [{"Id": "j-1"}]}, {"Clusters": [{"Id": "j-2"}]}]

    def describe_cluster(self, ClusterId):  # noqa: N803
        return {"Cluster": {"CustomAmiId": "ami-1"} if ClusterId == "j-1" else {}}


def test_images_of_live_clusters_are_in_use():
    assert baking.images_in_use(Emr()) == {"ami-1"}
