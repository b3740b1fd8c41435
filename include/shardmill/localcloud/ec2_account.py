"""What moto leaves out of EC2: images as large as their instance, names used once, tokens, limits, tags."""

from __future__ import annotations

from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.amis import Ami
from moto.ec2.utils import random_ami_id

USER_DATA_BYTES = 16_384
_NO_TOKEN = "ABCDE"  # noqa: S105  (what moto makes of a request without one)
_ROOT_DEVICE = "/dev/xvda"


class LocalImage(Ami):
    """An image on one EBS volume of a size of its own (moto's are all of 15 GiB)."""

    def __init__(self, ec2: Any, image_id: str, *, root_gib: int, **values: Any) -> None:
        self.root_gib = root_gib
        self.source_image_id = ""
        hardware = {"hypervisor": "xen", "root_device_type": "ebs", "root_device_name": _ROOT_DEVICE}
        super().__init__(ec2, image_id, **hardware | values)

    @property
    def block_device_mappings(self) -> list[dict[str, Any]]:
        mappings = super().block_device_mappings
        mappings[0]["Ebs"] |= {"VolumeSize": self.root_gib, "VolumeType": "gp3", "DeleteOnTermination": True}
        return mappings


def complete(ec2: Any) -> None:
    """Have one of moto's EC2 backends behave as EC2 does where the baking of images depends on it."""
    run_instances = ec2.run_instances
    launched: dict[str, tuple[Any, Any]] = {}

    def run_once(image_id: str, count: int, user_data: Any, groups: list[str], **values: Any) -> Any:
        """Launch; a client token that was seen before answers with what it made then."""
        if image_id not in ec2.amis:
            raise EC2ClientError("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")
        if user_data is not None and len(user_data.decode("latin-1")) > USER_DATA_BYTES:
            raise EC2ClientError("InvalidParameterValue", f"User data is limited to {USER_DATA_BYTES} bytes")
        token = values.get("client_token", _NO_TOKEN)
        asked = (image_id, count, user_data and user_data.decode("latin-1"), values.get("instance_type"))
        if token in launched:
            if launched[token][0] != asked:
                raise EC2ClientError(
                    "IdempotentParameterMismatch",
                    "The client token you have provided is associated with a different request",
                )
            return launched[token][1]
        made = run_instances(image_id, count, user_data, groups, **values)
        if token != _NO_TOKEN:
            launched[token] = asked, made
        return made

    def create_image(
        instance_id: str, name: str, description: str, tag_specifications: list[dict[str, Any]]
    ) -> LocalImage:
        """Make an image of an instance, as large as its root volume."""
        if any(image.name == name for image in ec2.amis.values()):
            raise EC2ClientError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by another AMI")
        instance = ec2.get_instance(instance_id)
        if instance.state not in ("running", "stopped"):
            raise EC2ClientError("IncorrectState", f"The instance '{instance_id}' is not in a state to be imaged")
        tags = _tags_by_kind(tag_specifications)
        image = LocalImage(
            ec2,
            random_ami_id(),
            root_gib=_root_gib(ec2, instance),
            instance=instance,
            name=name,
            description=description,
            root_device_name=instance.root_device_name,
            tags=tags.get("image", {}),
        )
        image.ebs_snapshot.add_tags(tags.get("snapshot", {}))
        image.source_image_id = instance.image_id
        ec2.amis[image.id] = image
        return image

    ec2.run_instances = run_once
    ec2.create_image = create_image


def _tags_by_kind(tag_specifications: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    return {one["ResourceType"]: {tag["Key"]: tag["Value"] for tag in one["Tags"]} for one in tag_specifications}


def _root_gib(ec2: Any, instance: Any) -> int:
    sizes = {device: ec2.volumes[block.volume_id].size for device, block in instance.get_block_device_mapping}
    return int(sizes.get(instance.root_device_name) or next(iter(sizes.values()), 8))
