"""What EMR refuses of custom images: from its Management Guide (emr-custom-ami)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shardmill.localcloud.fleet_refusals import requested_types
from shardmill.localcloud.releases import architectures, smallest_root_volume
from shardmill.localcloud.request_refused import RefusedError

_SYSTEMS = (
    (re.compile(r"\bal2023|amazon[ -]?linux[ -]?2023", re.IGNORECASE), "Amazon Linux 2023"),
    (re.compile(r"\bamzn2-|amazon[ -]?linux[ -]?2\b", re.IGNORECASE), "Amazon Linux 2"),
    (re.compile(r"\bamzn-ami|amazon[ -]?linux[ -]?(ami|20(1[0-9]))", re.IGNORECASE), "Amazon Linux"),
)
_OF_RELEASES = {"emr-6": "Amazon Linux 2", "emr-7": "Amazon Linux 2023", "emr-spark-8": "Amazon Linux 2023"}


@dataclass(frozen=True)
class Image:
    """What EC2 tells of an available image."""

    root_gib: int
    """Size of the root volume."""
    architecture: str = "x86_64"
    virtualization: str = "hvm"
    root_device: str = "ebs"
    volumes: int = 1
    """How many EBS volumes it brings."""
    words: str = ""
    """Its name and description: they tell what it was made from, where they tell it at all."""

    @property
    def system(self) -> str:
        """The operating system that its words name; empty where they name none."""
        return next((name for pattern, name in _SYSTEMS if pattern.search(self.words)), "")


def check_images(request: Mapping[str, Any], label: str, images: Mapping[str, Image]) -> None:
    """Refuse a request whose images EMR refuses, or whose root volume is too small for them."""
    smallest = smallest_root_volume(label)
    for image_id, types in _uses(request):
        image = images.get(image_id)
        if image is None:
            raise RefusedError(
                f"The supplied custom AMI {image_id} does not exist or is not available to this account."
            )
        _check_image(image_id, image, label)
        for instance_type in types:
            found = architectures(instance_type)
            if found and image.architecture not in found:
                raise RefusedError(
                    f"The architecture {image.architecture} of the custom AMI {image_id} does not match instance type "
                    f"'{instance_type}' ({', '.join(found)})."
                )
        smallest = max(smallest, image.root_gib)
    size = request.get("EbsRootVolumeSize")
    if size is not None and size < smallest:
        raise RefusedError(
            f"EbsRootVolumeSize {size} GiB is too small: release {label} with this image needs at least {smallest} GiB."
        )


def _check_image(image_id: str, image: Image, label: str) -> None:
    name = f"The supplied custom AMI {image_id}"
    if image.virtualization != "hvm":
        raise RefusedError(f"{name} is not supported: its virtualization type is {image.virtualization}, not hvm.")
    if image.root_device != "ebs":
        raise RefusedError(f"{name} is not supported: its root device is {image.root_device}, not ebs.")
    if image.volumes != 1:
        raise RefusedError(f"{name} is not supported: it has {image.volumes} EBS volumes, expected one.")
    if image.architecture not in ("x86_64", "arm64"):
        raise RefusedError(f"{name} is not supported: its architecture is {image.architecture}, which has not 64 bits.")
    needed = next((system for release, system in _OF_RELEASES.items() if label.startswith(f"{release}.")), "")
    if image.system and needed and image.system != needed:
        raise RefusedError(f"{name} is not supported by release {label}: it is {image.system}, expected {needed}.")


def _uses(request: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """List each image with the instance types that are to start from it; one without types is checked by itself."""
    instances = request["Instances"]
    general = request.get("CustomAmiId")
    own = list(instances.get("InstanceGroups") or ())
    own += [
        config for fleet in instances.get("InstanceFleets") or () for config in fleet.get("InstanceTypeConfigs", ())
    ]
    if general:
        special = [one["InstanceType"] for one in own if one.get("CustomAmiId")]
        yield general, [name for name in requested_types(instances) if name not in special]
    for one in own:
        if one.get("CustomAmiId"):
            yield one["CustomAmiId"], [one["InstanceType"]]
