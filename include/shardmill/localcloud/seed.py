"""What the local account holds from the start: roles, buckets, one cluster image."""

from __future__ import annotations

from typing import Any

import boto3
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.ec2.models.amis import Ami

from shardmill.localcloud.server import REGION

BUCKETS = ("shardmill-lake", "shardmill-source", "shardmill-logs")
SERVICE_ROLE = "EMR_DefaultRole"
NODE_ROLE = "EMR_EC2_DefaultRole"
IMAGE_NAME = "shardmill-cluster-local"
IMAGE_ID = "ami-0c1a55e5ba4ed0001"
IMAGE_GIB = 20
ACCESS_KEY = "testing"
_TRUST = '{"Version": "2012-10-17", "Statement": []}'


class _ClusterImage(Ami):
    """An image with a root volume of the size that a baked one has (moto's are all of 15 GiB)."""

    @property
    def block_device_mappings(self) -> list[dict[str, Any]]:
        mappings = super().block_device_mappings
        mappings[0]["Ebs"] |= {"VolumeSize": IMAGE_GIB, "VolumeType": "gp3", "DeleteOnTermination": True}
        return mappings


def client(service: str, endpoint: str) -> Any:
    """Make a client of boto3 for the local AWS."""
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=ACCESS_KEY,
    )


def seed(endpoint: str) -> None:
    """Make what is not there yet."""
    s3 = client("s3", endpoint)
    present = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for bucket in BUCKETS:
        if bucket not in present:
            s3.create_bucket(Bucket=bucket)
    iam = client("iam", endpoint)
    for role in (SERVICE_ROLE, NODE_ROLE):
        iam.create_role(RoleName=role, AssumeRolePolicyDocument=_TRUST)
    iam.create_instance_profile(InstanceProfileName=NODE_ROLE)
    iam.add_role_to_instance_profile(InstanceProfileName=NODE_ROLE, RoleName=NODE_ROLE)
    ec2 = ec2_backends[DEFAULT_ACCOUNT_ID][REGION]
    image = _ClusterImage(
        ec2,
        IMAGE_ID,
        name=IMAGE_NAME,
        description="Stands for the image that clusters start from; locally the cluster environment takes its place",
        virtualization_type="hvm",
        architecture="x86_64",
        hypervisor="xen",
        root_device_type="ebs",
        root_device_name="/dev/xvda",
        tags={"shardmill": "cluster", "Name": IMAGE_NAME},
    )
    ec2.amis[image.id] = image
