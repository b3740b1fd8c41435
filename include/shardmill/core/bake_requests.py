"""Write what EC2 is asked for when an image is baked: the launch of an instance, and the image of it."""

from __future__ import annotations

import html
import shlex
from collections.abc import Mapping
from typing import Any

from shardmill.core.bake import BAKING, TAG
from shardmill.core.planning import BadRequestError
from shardmill.specs.image import BakePlan

USER_DATA_BYTES = 16_384


def user_data(script: str, values: Mapping[str, str]) -> str:
    """Put values above a script's first command.

    Raises:
        BadRequestError: it is more than EC2 takes.
    """
    shebang, _, body = script.partition("\n")
    lines = [f"{name}={shlex.quote(value)}" for name, value in sorted(values.items())]
    text = "\n".join([shebang, *lines, body])
    if len(text.encode()) > USER_DATA_BYTES:
        raise BadRequestError(f"user data: EC2 takes {USER_DATA_BYTES} bytes, found {len(text.encode())}")
    return text


def links_page(links: Mapping[str, str]) -> str:
    """Write a page of links, as ``pip --find-links`` reads it: URL by the name of each wheel."""
    anchors = [f'<a href="{html.escape(url)}">{html.escape(name)}</a>' for name, url in sorted(links.items())]
    return "<!DOCTYPE html><html><body>\n" + "\n".join(anchors) + "\n</body></html>\n"


def instance_tags(plan: BakePlan, attempt: int, deadline: str) -> dict[str, str]:
    """Give the tags by which an instance is found again, and ended by whoever finds it too late."""
    return {
        TAG: BAKING,
        "Name": f"shardmill-{plan.name}",
        "bake": plan.name,
        "attempt": str(attempt),
        "deadline": deadline,
    }


def launch_request(plan: BakePlan, script: str, attempt: int, deadline: str) -> dict[str, Any]:
    """Give the arguments of RunInstances.

    Args:
        plan: what is baked.
        script: the user data, filled in.
        attempt: from 1 on; each has a token of its own, so that a request that is sent twice launches once.
        deadline: when the instance must be gone, ISO 8601 in UTC; a tag.
    """
    asked = plan.asked
    tags = [{"Key": key, "Value": value} for key, value in instance_tags(plan, attempt, deadline).items()]
    request: dict[str, Any] = {
        "ImageId": plan.base_id,
        "InstanceType": asked.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": client_token(plan, attempt),
        "UserData": script,
        # The image is made of what lies on its disk: a shutdown must leave that.
        "InstanceInitiatedShutdownBehavior": "stop",
        "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled"},
        "BlockDeviceMappings": [
            {
                "DeviceName": plan.root_device,
                "Ebs": {"VolumeSize": asked.root_gib, "VolumeType": "gp3", "DeleteOnTermination": True},
            }
        ],
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")],
    }
    if asked.subnet_id:
        request["SubnetId"] = asked.subnet_id
    if asked.instance_profile:
        request["IamInstanceProfile"] = {"Name": asked.instance_profile}
    return request


def client_token(plan: BakePlan, attempt: int) -> str:
    """Name one launch for EC2, which answers the same name with the same instance."""
    return f"shardmill-{plan.name}-{attempt}"


def deadline_of(request: Mapping[str, Any]) -> str:
    """Read from a launch when its instance must be gone."""
    tags = {tag["Key"]: tag["Value"] for tag in request["TagSpecifications"][0]["Tags"]}
    return tags["deadline"]


def image_request(plan: BakePlan, instance_id: str, attempt: int) -> dict[str, Any]:
    """Give the arguments of CreateImage. No cluster finds the image before it was checked: see ``cluster_tags``.

    Its snapshots carry the same tags, and keep them: so they are found again where they outlive their image.
    """
    tags = {
        TAG: BAKING,
        "Name": plan.image_name,
        "lock": plan.lock_sha256,
        "base": plan.base_id,
        "recipe": plan.recipe,
        "bake": plan.name,
        "attempt": str(attempt),
    }
    return {
        "InstanceId": instance_id,
        "Name": plan.image_name,
        "Description": f"Shardmill's image of cluster nodes, made from {plan.base_name or plan.base_id}"[:255],
        "TagSpecifications": [
            {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
            for kind in ("image", "snapshot")
        ],
    }
