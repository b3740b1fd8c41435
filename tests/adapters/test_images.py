from __future__ import annotations

import copy

import pytest
from botocore.exceptions import ClientError

from shardmill.adapters.emr import RefusedError
from shardmill.adapters.images import check_image_for, examine
from shardmill.core.planning import BadRequestError

ID = "ami-0123456789abcdef0"
BASE = "ami-0000000000000ba5e"
IMAGE = {
    "ImageId": ID,
    "Name": "mine",
    "Description": "",
    "State": "available",
    "Architecture": "x86_64",
    "VirtualizationType": "hvm",
    "RootDeviceType": "ebs",
    "RootDeviceName": "/dev/xvda",
    "SourceImageId": BASE,
    "BlockDeviceMappings": [
        {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 30, "SnapshotId": "snap-1"}},
        {"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0"},
    ],
    "Tags": [{"Key": "recipe", "Value": "x"}],
}
TYPES = {"m5.xlarge": ["x86_64"], "g4dn.xlarge": ["x86_64"], "m6g.xlarge": ["arm64"], "t3.medium": ["i386", "x86_64"]}


def error(code):
    return ClientError({"Error": {"Code": code, "Message": f"{code} it is"}}, "DescribeImages")


class Ec2:
    """An EC2 that holds one image and its base, and counts what it is asked."""

    def __init__(self, **changes):
        self.images = {ID: copy.deepcopy(IMAGE) | changes, BASE: {"ImageId": BASE, "Name": "al2023-ami-2023.9-x86_64"}}
        self.asked = []

    def describe_images(self, ImageIds):  # noqa: N803 - boto3's name
        self.asked.append(ImageIds[0])
        found = self.images.get(ImageIds[0], error("InvalidAMIID.NotFound"))
        if isinstance(found, Exception):
            raise found
        return {"Images": [found]}

    def describe_instance_types(self, InstanceTypes):  # noqa: N803
        if unknown := set(InstanceTypes) - set(TYPES):
            raise ClientError(
                {"Error": {"Code": "InvalidInstanceType", "Message": f"no {sorted(unknown)}"}}, "DescribeInstanceTypes"
            )
        return {
            "InstanceTypes": [
                {"InstanceType": name, "ProcessorInfo": {"SupportedArchitectures": TYPES[name]}}
                for name in InstanceTypes
            ]
        }


def check(ec2, lake, *, gib=40, types=("m5.xlarge", "g4dn.xlarge"), release="emr-7.13.0"):
    check_image_for(ec2, ID, release, types, gib, lake)


def test_what_passed_is_remembered_by_image_release_and_architecture(lake):
    ec2 = Ec2()
    check(ec2, lake)
    assert ec2.asked == [ID, BASE]
    check(ec2, lake)
    assert ec2.asked == [ID, BASE, ID]  # whether it is still there is asked every time
    assert [item.key for item in lake.list()] == [f"images/{ID}/emr-7.13.0-x86_64.json"]
    check(ec2, lake, release="emr-7.12.0")
    assert ec2.asked[3:] == [ID, BASE]


def test_what_did_not_pass_is_looked_at_again(lake):
    ec2 = Ec2(VirtualizationType="paravirtual", State="pending")
    with pytest.raises(
        RefusedError, match=r"(?s)image_id: .* breaks 2 of the rules.*- available: .*- virtualization: "
    ):
        check(ec2, lake)
    assert list(lake.list()) == []
    ec2.images[ID] |= {"VirtualizationType": "hvm", "State": "available"}
    check(ec2, lake)


def test_an_image_that_passed_and_is_gone_or_going_is_refused(lake):
    ec2 = Ec2()
    check(ec2, lake)
    ec2.images[ID]["State"] = "deregistered"
    with pytest.raises(RefusedError, match="available: expected available, found deregistered"):
        check(ec2, lake)
    del ec2.images[ID]
    with pytest.raises(RefusedError, match=r"image_id: InvalidAMIID\.NotFound it is"):
        check(ec2, lake)


def test_the_root_volume_is_looked_at_every_time(lake):
    ec2 = Ec2()
    check(ec2, lake)
    with pytest.raises(RefusedError, match=f"root volume: root_volume_gib is 29, .*{ID} needs 30 GiB"):
        check(ec2, lake, gib=29)


def test_the_system_is_told_by_the_image_that_one_was_made_from(lake):
    ec2 = Ec2()
    ec2.images[BASE]["Name"] = "amzn2-ami-hvm-2.0.20260101-x86_64-gp2"
    with pytest.raises(RefusedError, match=r"operating system: .*Amazon Linux 2023 only, found Amazon Linux 2 "):
        check(ec2, lake)


@pytest.mark.parametrize("code", ["InvalidAMIID.Unavailable", "UnauthorizedOperation"])
def test_a_source_that_cannot_be_seen_leaves_a_note(lake, code):
    ec2 = Ec2()
    ec2.images[BASE] = error(code)
    verdict, _ = examine(ec2, ID, "emr-7.13.0", ["m5.xlarge"], lake)
    assert verdict.broken == ()
    assert "tag it os=al2023" in verdict.notes[0]


def test_a_fault_of_ec2_is_no_verdict(lake):
    ec2 = Ec2()
    ec2.images[BASE] = error("RequestLimitExceeded")
    with pytest.raises(ClientError, match="RequestLimitExceeded"):
        check(ec2, lake)
    assert list(lake.list()) == []


def test_types_of_another_architecture_or_of_two_or_unknown_ones_are_refused(lake):
    with pytest.raises(RefusedError, match=r"architecture: expected arm64 for m6g\.xlarge, found x86_64"):
        check(Ec2(), lake, types=["m6g.xlarge"])
    with pytest.raises(BadRequestError, match=r"m5\.xlarge is x86_64, m6g\.xlarge is arm64"):
        check(Ec2(), lake, types=["m6g.xlarge", "m5.xlarge"])
    with pytest.raises(RefusedError, match="instance types: no"):
        check(Ec2(), lake, types=["p2.xlarge"])
    check(Ec2(), lake, types=["t3.medium"])  # which can do with 32 bits, too


def test_the_doctor_and_the_local_aws_share_no_code():
    import ast
    from importlib.resources import files

    for module, others in {
        "core/image_rules.py": "localcloud",
        "adapters/images.py": "localcloud",
        "localcloud/image_refusals.py": "image_rules",
    }.items():
        tree = ast.parse(files("shardmill").joinpath(*module.split("/")).read_text())
        imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not [name for name in imported if others in name], module
