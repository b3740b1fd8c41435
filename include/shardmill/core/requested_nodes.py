"""Read the nodes out of a RunJobFlow, whether it asks for instance groups or for fleets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

_DATA_GIB_A_VCPU = 16
"""EMR adds volumes of so much for each vCPU to an instance without disks of its own: 32 GiB to a large, 64 to an
xlarge (its guide to instance storage, releases from 5.22 on)."""


@dataclass(frozen=True)
class NodeType:
    """What EC2 says of an instance type."""

    vcpus: int
    own_disks: bool
    """Whether it comes with disks; where it does not, EMR adds volumes."""


@dataclass(frozen=True)
class Choice:
    """One way to fill a group of nodes."""

    instance_type: str
    count: int
    data_gib: int | None = None
    """Of the volumes that the request adds to each node; None where it leaves that to EMR."""


@dataclass(frozen=True)
class NodeGroup:
    """Nodes that are asked for together."""

    name: str
    role: str
    """``MASTER``, ``CORE`` or ``TASK``."""
    spot: bool
    choices: tuple[Choice, ...]
    """A group has one, a fleet one for each of its types."""


def node_groups(request: Mapping[str, Any]) -> tuple[NodeGroup, ...]:
    """Give the groups of nodes that a RunJobFlow asks for; a fleet with both markets is two."""
    instances = request["Instances"]
    return (
        *(_group(group) for group in instances.get("InstanceGroups", ())),
        *(group for fleet in instances.get("InstanceFleets", ()) for group in _fleet(fleet)),
    )


def requested_types(*requests: Mapping[str, Any]) -> set[str]:
    """Give the instance types that RunJobFlows may start."""
    return {choice.instance_type for request in requests for group in node_groups(request) for choice in group.choices}


def _group(group: Mapping[str, Any]) -> NodeGroup:
    choice = Choice(group["InstanceType"], group["InstanceCount"], _data_gib(group))
    spot = group.get("Market", "ON_DEMAND") == "SPOT"
    role = group.get("InstanceRole", "")
    return NodeGroup(group.get("Name") or role.lower(), role, spot, (choice,))


def _fleet(fleet: Mapping[str, Any]) -> Iterator[NodeGroup]:
    role = fleet["InstanceFleetType"]
    for spot, field in ((False, "TargetOnDemandCapacity"), (True, "TargetSpotCapacity")):
        if target := fleet.get(field, 0):
            choices = tuple(
                Choice(config["InstanceType"], ceil(target / config.get("WeightedCapacity", 1)), _data_gib(config))
                for config in fleet["InstanceTypeConfigs"]
            )
            yield NodeGroup(fleet.get("Name") or role.lower(), role, spot, choices)


def _data_gib(asked: Mapping[str, Any]) -> int | None:
    volumes = asked.get("EbsConfiguration", {}).get("EbsBlockDeviceConfigs")
    if not volumes:
        return None
    return sum(volume["VolumeSpecification"]["SizeInGB"] * volume.get("VolumesPerInstance", 1) for volume in volumes)


def volumes_gib(request: Mapping[str, Any], choice: Choice, types: Mapping[str, NodeType]) -> int:
    """Give the volumes of one node: its root, and those for data that the request or EMR itself adds.

    Args:
        types: what EC2 says of instance types; of one that is not there no volume of EMR's is counted.
    """
    root: int = request["EbsRootVolumeSize"]
    found = types.get(choice.instance_type)
    if choice.data_gib is not None or found is None or found.own_disks:
        return root + (choice.data_gib or 0)
    return root + _DATA_GIB_A_VCPU * found.vcpus
