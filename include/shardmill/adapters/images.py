"""The doctor of machine images: asks EC2 what an image is, holds it against EMR's rules, remembers what passed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from botocore.exceptions import ClientError

from shardmill.adapters.emr import RefusedError
from shardmill.adapters.store import MissingObjectError, Store, read_sealed
from shardmill.core.image_rules import check_image, root_volume_rules
from shardmill.specs.image import ImageFacts, ImageVerdict, Volume

_ARCHITECTURES = ("x86_64", "arm64")
_TYPES_A_CALL = 100
_NOT_TO_BE_SEEN = ("InvalidAMIID", "AuthFailure", "UnauthorizedOperation")


def check_image_for(
    ec2: Any, image_id: str, release_label: str, instance_types: Iterable[str], root_volume_gib: int, lake: Store
) -> ImageFacts:
    """Refuse an image that EMR would not start these instances from, before anything is paid for.

    What passed is remembered in the lake by image, release and architecture. Whether the image is still there and the
    root volume large enough is looked at every time.

    Args:
        ec2: a client of boto3.
        image_id: the custom image.
        release_label: such as ``emr-7.13.0``.
        instance_types: of all nodes that are to start from it.
        root_volume_gib: what the cluster asks for.
        lake: keeps the verdict.

    Returns:
        What EC2 says of the image now.

    Raises:
        RefusedError: naming each broken rule and what to do.
    """
    verdict, facts = examine(ec2, image_id, release_label, instance_types, lake)
    broken = [*verdict.broken, *root_volume_rules(facts, release_label, root_volume_gib)]
    if broken:
        rules = "\n".join(f"- {rule}" for rule in broken)
        raise RefusedError(f"image_id: {image_id} breaks {len(broken)} of the rules of {release_label}:\n{rules}")
    return facts


def examine(
    ec2: Any, image_id: str, release_label: str, instance_types: Iterable[str], lake: Store
) -> tuple[ImageVerdict, ImageFacts]:
    """Give the verdict on an image, from the lake where it passed before, and what EC2 says of the image now.

    Raises:
        RefusedError: there is no such image or instance type.
        BadRequestError: the types are of several architectures, or the release is not known.
    """
    described = _describe(ec2, image_id)
    architectures = _architectures(ec2, instance_types)
    key = f"images/{image_id}/{release_label}-{'-'.join(sorted(set(architectures.values())))}.json"
    if described["State"] == "available":
        try:
            return read_sealed(lake, key, ImageVerdict), _facts(described, "")
        except MissingObjectError:
            pass  # the first time, or it did not pass
    facts = _facts(described, _source_name(ec2, described))
    verdict = check_image(facts, release_label, architectures)
    if not verdict.broken:
        lake.put_new(key, verdict.to_json())
    return verdict, facts


def _describe(ec2: Any, image_id: str) -> dict[str, Any]:
    try:
        images = ec2.describe_images(ImageIds=[image_id])["Images"]
    except ClientError as error:
        if not error.response["Error"]["Code"].startswith("InvalidAMIID"):
            raise
        raise RefusedError(f"image_id: {error.response['Error']['Message']}") from error
    if not images:
        raise RefusedError(f"image_id: {image_id} is not there, or not visible to this account")
    found: dict[str, Any] = images[0]
    return found


def _source_name(ec2: Any, described: dict[str, Any]) -> str:
    """Give the name of the image that one was made from; nothing where it is gone or another account's."""
    source = described.get("SourceImageId")
    if not source:
        return ""
    try:
        images = ec2.describe_images(ImageIds=[source])["Images"]
    except ClientError as error:
        if error.response["Error"]["Code"].startswith(_NOT_TO_BE_SEEN):
            return ""
        raise
    return str(images[0].get("Name", "")) if images else ""


def _facts(described: dict[str, Any], source_name: str) -> ImageFacts:
    volumes = [
        Volume(device=mapping["DeviceName"], gib=mapping["Ebs"].get("VolumeSize"))
        for mapping in described.get("BlockDeviceMappings", ())
        if "Ebs" in mapping
    ]
    return ImageFacts(
        image_id=described["ImageId"],
        name=described.get("Name", ""),
        description=described.get("Description", ""),
        source_name=source_name,
        state=described["State"],
        architecture=described.get("Architecture", ""),
        virtualization=described.get("VirtualizationType", ""),
        root_device_type=described.get("RootDeviceType", ""),
        root_device=described.get("RootDeviceName", ""),
        platform=described.get("Platform", ""),
        volumes=tuple(volumes),
        tags={tag["Key"]: tag["Value"] for tag in described.get("Tags", ())},
    )


def _architectures(ec2: Any, instance_types: Iterable[str]) -> dict[str, str]:
    """Ask for the 64-bit architecture of each instance type."""
    names = sorted(set(instance_types))
    found: dict[str, str] = {}
    for start in range(0, len(names), _TYPES_A_CALL):
        try:
            told = ec2.describe_instance_types(InstanceTypes=names[start : start + _TYPES_A_CALL])["InstanceTypes"]
        except ClientError as error:
            if error.response["Error"]["Code"] != "InvalidInstanceType":
                raise
            raise RefusedError(f"instance types: {error.response['Error']['Message']}") from error
        for one in told:
            supported = one["ProcessorInfo"]["SupportedArchitectures"]
            found[one["InstanceType"]] = next((name for name in _ARCHITECTURES if name in supported), supported[0])
    if absent := sorted(set(names) - set(found)):
        raise RefusedError(f"instance types: EC2 has none named {', '.join(absent)}")
    return found
