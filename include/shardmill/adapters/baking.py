"""EC2, as far as the baking of images goes: find by tags what earlier tries made, make it, end it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from shardmill.adapters.emr import ALIVE, RefusedError
from shardmill.core.bake import BAKING, CLUSTER, TAG, BaseImage

_GONE = ("shutting-down", "terminated")
_HOPELESS = ("Invalid", "Unauthorized", "AuthFailure", "OptInRequired", "MissingParameter", "VcpuLimitExceeded")
_PASSES = ("InvalidInstanceID.NotFound", "InvalidAMIID.NotFound")
"""Right behind the making EC2 may not yet know what it made."""


@dataclass(frozen=True)
class Builder:
    """An instance that an image is baked on."""

    instance_id: str
    attempt: int
    state: str

    @property
    def is_there(self) -> bool:
        """Whether it may still become, or already holds, what an image is made of."""
        return self.state not in _GONE


def find_base(ec2: Any, asked: str) -> BaseImage:
    """Find the image to start from, by its id or as the newest of Amazon's of that name.

    Raises:
        RefusedError: there is none.
    """
    if asked.startswith("ami-"):
        query: dict[str, Any] = {"ImageIds": [asked]}
    else:
        filters = {"name": asked, "state": "available"}
        query = {"Owners": ["amazon"], "Filters": [{"Name": key, "Values": [value]} for key, value in filters.items()]}
    try:
        images = ec2.describe_images(**query)["Images"]
    except ClientError as error:
        if not error.response["Error"]["Code"].startswith("InvalidAMIID"):
            raise
        raise RefusedError(f"base: {error.response['Error']['Message']}") from error
    if not images:
        raise RefusedError(f"base: no available image of Amazon's is named {asked}")
    newest = max(images, key=lambda image: (image.get("CreationDate", ""), image["ImageId"]))
    root = newest.get("RootDeviceName", "")
    sizes = {
        one["DeviceName"]: one["Ebs"].get("VolumeSize", 0) for one in newest["BlockDeviceMappings"] if "Ebs" in one
    }
    return BaseImage(newest["ImageId"], newest.get("Name", ""), newest["Architecture"], root, sizes.get(root, 0))


def describe_type(ec2: Any, instance_type: str) -> dict[str, Any]:
    """Give what EC2 says of an instance type. Raises RefusedError where it has none of this name."""
    try:
        (found,) = ec2.describe_instance_types(InstanceTypes=[instance_type])["InstanceTypes"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "InvalidInstanceType":
            raise
        raise RefusedError(f"instance_type: {error.response['Error']['Message']}") from error
    return dict(found)


def find_image(ec2: Any, recipe: str) -> str:
    """Find the newest image of a recipe that clusters may start from; nothing where there is none."""
    images = _own_images(ec2, {f"tag:{TAG}": [CLUSTER], "tag:recipe": [recipe], "state": ["available"]})
    newest = max(images, key=lambda image: (image.get("CreationDate", ""), image["ImageId"]), default=None)
    return str(newest["ImageId"]) if newest else ""


def cluster_images(ec2: Any) -> list[dict[str, Any]]:
    """List the account's images that clusters may start from."""
    return _own_images(ec2, {f"tag:{TAG}": [CLUSTER]})


def baked_images(ec2: Any) -> list[dict[str, Any]]:
    """List the account's images that clusters may start from, and those that were never approved."""
    return _own_images(ec2, {f"tag:{TAG}": [CLUSTER, BAKING]})


def all_images(ec2: Any) -> list[dict[str, Any]]:
    """List all images of the account, disabled ones too: these hold their snapshots as well."""
    images: list[dict[str, Any]] = ec2.describe_images(Owners=["self"], IncludeDisabled=True)["Images"]
    return images


def baked_snapshots(ec2: Any) -> list[dict[str, Any]]:
    """List the snapshots that bakes made, whether their image is there or not."""
    tagged = [{"Name": f"tag:{TAG}", "Values": [BAKING]}]
    pages = ec2.get_paginator("describe_snapshots").paginate(OwnerIds=["self"], Filters=tagged)
    return [snapshot for page in pages for snapshot in page["Snapshots"]]


def _own_images(ec2: Any, filters: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    asked = [{"Name": key, "Values": list(values)} for key, values in filters.items()]
    images: list[dict[str, Any]] = ec2.describe_images(Owners=["self"], Filters=asked)["Images"]
    return images


def images_in_use(emr: Any) -> set[str]:
    """Collect the images of live clusters: a node that is replaced starts from them again."""
    pages = emr.get_paginator("list_clusters").paginate(ClusterStates=list(ALIVE))
    ids = [cluster["Id"] for page in pages for cluster in page["Clusters"]]
    return {image for one in ids if (image := emr.describe_cluster(ClusterId=one)["Cluster"].get("CustomAmiId"))}


def builders(ec2: Any, bake: str) -> list[Builder]:
    """List the instances of a bake, those that are gone too as long as EC2 knows them; the oldest first."""
    pages = ec2.get_paginator("describe_instances").paginate(Filters=[{"Name": "tag:bake", "Values": [bake]}])
    found = []
    for instance in (one for page in pages for held in page["Reservations"] for one in held["Instances"]):
        tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
        found.append(Builder(instance["InstanceId"], int(tags["attempt"]), instance["State"]["Name"]))
    return sorted(found, key=lambda builder: (builder.attempt, builder.instance_id))


def launch(ec2: Any, request: Mapping[str, Any]) -> str:
    """Launch an instance; a request that is sent again with the same token launches none.

    Raises:
        RefusedError: EC2 refuses it for good.
    """
    try:
        return str(ec2.run_instances(**request)["Instances"][0]["InstanceId"])
    except ClientError as error:
        if not error.response["Error"]["Code"].startswith(_HOPELESS):
            raise
        raise RefusedError(f"EC2 refused the instance: {error.response['Error']['Message']}") from error


def instance_state(ec2: Any, instance_id: str) -> tuple[str, str]:
    """Give an instance's state and why it is in it; ``pending`` while EC2 does not know it yet."""
    try:
        (held,) = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
    except ClientError as error:
        if error.response["Error"]["Code"] in _PASSES:
            return "pending", ""
        raise
    instance = held["Instances"][0]
    return instance["State"]["Name"], instance.get("StateReason", {}).get("Message", "")


def image_state(ec2: Any, image_id: str) -> tuple[str, str]:
    """Give an image's state and why it is in it; ``pending`` while EC2 does not know it yet."""
    try:
        images = ec2.describe_images(ImageIds=[image_id])["Images"]
    except ClientError as error:
        if error.response["Error"]["Code"] in _PASSES:
            return "pending", ""
        raise
    if not images:
        return "pending", ""
    return images[0]["State"], images[0].get("StateReason", {}).get("Message", "")


def terminate_builders(ec2: Any, bake: str) -> list[str]:
    """Ask for the end of every instance of a bake; give those that are not gone yet."""
    left = [builder for builder in builders(ec2, bake) if builder.state != "terminated"]
    asked = [builder.instance_id for builder in left if builder.is_there]
    if asked:
        ec2.terminate_instances(InstanceIds=asked)
    return [builder.instance_id for builder in left]


def make_image(ec2: Any, request: Mapping[str, Any]) -> str:
    """Make an image of a stopped instance, or join the one of that name that an earlier try made.

    Raises:
        RefusedError: EC2 refuses it for good.
    """
    try:
        return str(ec2.create_image(**request)["ImageId"])
    except ClientError as error:
        if error.response["Error"]["Code"] != "InvalidAMIName.Duplicate":
            raise
    found = _own_images(ec2, {"name": [request["Name"]]})
    if not found:
        raise RefusedError(f"an image named {request['Name']} is there, but EC2 does not list it among ours")
    return str(found[0]["ImageId"])


def tag(ec2: Any, resource: str, tags: Mapping[str, str]) -> None:
    """Put tags on something."""
    ec2.create_tags(Resources=[resource], Tags=[{"Key": key, "Value": value} for key, value in tags.items()])


def remove_image(ec2: Any, image_id: str, snapshots: Sequence[str]) -> dict[str, str]:
    """Deregister an image and delete what it lies on; what is gone already is no error.

    Returns:
        Why it stays, by the id of each thing that could not be removed. Snapshots of an image that stays are not tried.
    """
    left = _removed(image_id, lambda: ec2.deregister_image(ImageId=image_id))
    return left or delete_snapshots(ec2, snapshots)


def delete_snapshots(ec2: Any, snapshots: Sequence[str]) -> dict[str, str]:
    """Delete snapshots; give why it stays, by the id of each that could not be deleted."""
    left: dict[str, str] = {}
    for snapshot in snapshots:
        left |= _removed(snapshot, functools.partial(ec2.delete_snapshot, SnapshotId=snapshot))
    return left


def _removed(name: str, remove: Callable[[], Any]) -> dict[str, str]:
    try:
        remove()
    except ClientError as error:
        if not error.response["Error"]["Code"].startswith(("InvalidAMIID", "InvalidSnapshot.NotFound")):
            return {name: str(error)}
    return {}


def signed(s3: Any, uri: str, method: str, seconds: int, **answer: str) -> str:
    """Give a URL by which anybody may get or put one object for a while.

    Args:
        s3: a client of boto3 that signs by version 4.
        uri: ``s3://…``.
        method: ``get_object`` or ``put_object``.
        seconds: how long it holds; credentials that expire end it earlier.
        answer: what S3 is to say of the object, e.g. ``ResponseContentType``.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    values = {"Bucket": bucket, "Key": key, **answer}
    return str(s3.generate_presigned_url(method, Params=values, ExpiresIn=seconds))
