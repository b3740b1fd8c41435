"""What the local account holds from the start: roles, buckets, one cluster image and one of Amazon's to bake from."""

from __future__ import annotations

import json
from typing import Any

import boto3
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends

from shardmill.localcloud.ec2_account import LocalImage, complete
from shardmill.localcloud.server import REGION

BUCKETS = ("shardmill-lake", "shardmill-source", "shardmill-logs")
SERVICE_ROLE = "EMR_DefaultRole"
NODE_ROLE = "EMR_EC2_DefaultRole"
IMAGE_NAME = "shardmill-cluster-local"
IMAGE_ID = "ami-0c1a55e5ba4ed0001"
IMAGE_GIB = 20
BASE_IMAGE_NAME = "al2023-ami-2023.9.20261105.0-kernel-6.1-x86_64"
BASE_IMAGE_ID = "ami-0c1a55e5ba4ed0002"
BASE_GIB = 8
ACCESS_KEY = "testing"
_TRUSTED = {SERVICE_ROLE: "elasticmapreduce.amazonaws.com", NODE_ROLE: "ec2.amazonaws.com"}
"""The service that may take each role."""


def client(service: str, endpoint: str) -> Any:
    """Make a client of boto3 for the local AWS."""
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=ACCESS_KEY,
    )


def local_ec2() -> Any:
    """Give the backend that holds the account's instances and images."""
    return ec2_backends[DEFAULT_ACCOUNT_ID][REGION]


def seed(endpoint: str) -> None:
    """Make what is not there yet."""
    s3 = client("s3", endpoint)
    present = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for bucket in BUCKETS:
        if bucket not in present:
            s3.create_bucket(Bucket=bucket)
    iam = client("iam", endpoint)
    for role, service in _TRUSTED.items():
        statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.create_role(RoleName=role, AssumeRolePolicyDocument=policy)
    iam.create_instance_profile(InstanceProfileName=NODE_ROLE)
    iam.add_role_to_instance_profile(InstanceProfileName=NODE_ROLE, RoleName=NODE_ROLE)
    ec2 = local_ec2()
    complete(ec2)
    for image in (_cluster_image(ec2), _base_image(ec2)):
        ec2.amis[image.id] = image


def _cluster_image(ec2: Any) -> LocalImage:
    return LocalImage(
        ec2,
        IMAGE_ID,
        root_gib=IMAGE_GIB,
        name=IMAGE_NAME,
        description="Stands for the image that clusters start from; locally the cluster environment takes its place",
        virtualization_type="hvm",
        architecture="x86_64",
        tags={"shardmill": "cluster", "Name": IMAGE_NAME, "os": "al2023"},
    )


def _base_image(ec2: Any) -> LocalImage:
    return LocalImage(
        ec2,
        BASE_IMAGE_ID,
        root_gib=BASE_GIB,
        name=BASE_IMAGE_NAME,
        description="Stands for Amazon Linux 2023; user data of its instances runs in namespaces of this machine",
        virtualization_type="hvm",
        architecture="x86_64",
        owner_id="137112412989",
        owner_alias="amazon",
        public=True,
    )
