"""What EC2 says of images and of types of instances."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from shardmill.adapters.emr.calls import RefusedError
from shardmill.core.emr_request import NodeSize


def newest_image(ec2: Any, *, gpus: bool = False) -> str:
    """Give the available own image tagged ``shardmill=cluster`` that was chosen last, or else made last.

    Args:
        gpus: whether nodes with GPUs are to start from it; then one that was baked without their driver is none.

    Raises:
        RefusedError: there is none.
    """
    images = ec2.describe_images(
        Owners=["self"],
        Filters=[{"Name": "tag:shardmill", "Values": ["cluster"]}, {"Name": "state", "Values": ["available"]}],
    )["Images"]
    if not images:
        raise RefusedError(
            "image_id: none given, and the account has no available image tagged shardmill=cluster: "
            "bake one or name one"
        )
    fit = [image for image in images if not (gpus and _tag(image, "driver") == "no")]
    if not fit:
        raise RefusedError(
            "image_id: none given, and all images tagged shardmill=cluster were baked without a GPU's driver: bake one "
            "on an instance type with a GPU, or name one"
        )
    newest = max(fit, key=lambda image: (_tag(image, "chosen") or image.get("CreationDate", ""), image["ImageId"]))
    return str(newest["ImageId"])


def _tag(image: dict[str, Any], key: str) -> str:
    return next((str(tag["Value"]) for tag in image.get("Tags", ()) if tag["Key"] == key), "")


def node_size(ec2: Any, instance_type: str, field: str = "split_type") -> NodeSize:
    """Give the cores, the memory and NVIDIA's GPUs of an instance type.

    Args:
        field: what the type was asked in; named where EC2 has none of this name.

    Raises:
        RefusedError: EC2 has no such type.
    """
    try:
        (found,) = ec2.describe_instance_types(InstanceTypes=[instance_type])["InstanceTypes"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "InvalidInstanceType":
            raise
        raise RefusedError(f"{field}: {error.response['Error']['Message']}") from error
    gpus = [gpu for gpu in found.get("GpuInfo", {}).get("Gpus", ()) if gpu.get("Manufacturer") == "NVIDIA"]
    count = sum(gpu["Count"] for gpu in gpus)
    return NodeSize(found["VCpuInfo"]["DefaultVCpus"], found["MemoryInfo"]["SizeInMiB"], count)
