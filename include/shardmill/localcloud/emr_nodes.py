"""The nodes of a cluster the way EMR's API tells of them: instance groups, instance fleets, instances."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shardmill.localcloud.emr_answers import Answer, filled
from shardmill.localcloud.emr_state import Cluster

_NODE_STATES = {
    "STARTING": "PROVISIONING",
    "BOOTSTRAPPING": "BOOTSTRAPPING",
    "RUNNING": "RUNNING",
    "WAITING": "RUNNING",
    "TERMINATING": "SHUTTING_DOWN",
}
_MARKETS = (("ON_DEMAND", "TargetOnDemandCapacity"), ("SPOT", "TargetSpotCapacity"))


@dataclass(frozen=True)
class _Collection:
    """A group or a fleet, with what each of its nodes is."""

    id: str
    role: str
    nodes: tuple[tuple[str, str], ...]
    """Market and instance type."""


def has_fleets(cluster: Cluster) -> bool:
    """Whether the cluster was asked for by instance fleets."""
    return bool(cluster.request["Instances"].get("InstanceFleets"))


def instance_groups(cluster: Cluster) -> list[Answer]:
    """Write what ListInstanceGroups says of a cluster."""
    status = _status(cluster)
    return [
        {
            "Id": _group_id(cluster, number),
            "Name": group.get("Name") or group["InstanceRole"].title(),
            "Market": group.get("Market", "ON_DEMAND"),
            "InstanceGroupType": group["InstanceRole"],
            "InstanceType": group["InstanceType"],
            "RequestedInstanceCount": group["InstanceCount"],
            "RunningInstanceCount": 0 if status["State"] == "TERMINATED" else group["InstanceCount"],
            "Status": status,
            "Configurations": group.get("Configurations", []),
            "EbsBlockDevices": [],
            "ShrinkPolicy": {},
            **filled({"BidPrice": group.get("BidPrice"), "CustomAmiId": group.get("CustomAmiId")}),
        }
        for number, group in enumerate(requested_groups(cluster.request["Instances"]))
    ]


def requested_groups(instances: Mapping[str, Any]) -> list[Answer]:
    """Give the instance groups of a request, those of the older short form too."""
    if instances.get("InstanceGroups"):
        return [dict(group) for group in instances["InstanceGroups"]]
    count = instances.get("InstanceCount", 1)
    groups = [{"InstanceRole": "MASTER", "InstanceType": instances["MasterInstanceType"], "InstanceCount": 1}]
    if count > 1:
        core = instances.get("SlaveInstanceType", instances["MasterInstanceType"])
        groups.append({"InstanceRole": "CORE", "InstanceType": core, "InstanceCount": count - 1})
    return groups


def instance_fleets(cluster: Cluster) -> list[Answer]:
    """Write what ListInstanceFleets says of a cluster."""
    status = _status(cluster)
    state = {"SHUTTING_DOWN": "TERMINATING"}.get(status["State"], status["State"])
    there = state in ("RUNNING", "TERMINATING")
    return [
        {
            "Id": _fleet_id(cluster, number),
            "Name": fleet.get("Name") or fleet["InstanceFleetType"].title(),
            "Status": {**status, "State": state},
            "InstanceFleetType": fleet["InstanceFleetType"],
            "TargetOnDemandCapacity": fleet.get("TargetOnDemandCapacity", 0),
            "TargetSpotCapacity": fleet.get("TargetSpotCapacity", 0),
            "ProvisionedOnDemandCapacity": fleet.get("TargetOnDemandCapacity", 0) if there else 0,
            "ProvisionedSpotCapacity": fleet.get("TargetSpotCapacity", 0) if there else 0,
            "InstanceTypeSpecifications": [_specification(one) for one in fleet.get("InstanceTypeConfigs", ())],
            **filled({"LaunchSpecifications": fleet.get("LaunchSpecifications")}),
        }
        for number, fleet in enumerate(cluster.request["Instances"].get("InstanceFleets", ()))
    ]


def _specification(config: Mapping[str, Any]) -> Answer:
    copied = ("BidPrice", "BidPriceAsPercentageOfOnDemandPrice", "CustomAmiId", "Priority")
    return {
        "InstanceType": config["InstanceType"],
        "WeightedCapacity": config.get("WeightedCapacity", 1),
        "Configurations": config.get("Configurations", []),
        "EbsBlockDevices": [],
        **filled({name: config.get(name) for name in copied}),
    }


def instances(cluster: Cluster) -> list[Answer]:
    """Write what ListInstances says of a cluster."""
    status = _status(cluster)
    status["State"] = {"SHUTTING_DOWN": "RUNNING"}.get(status["State"], status["State"])
    belongs = "InstanceFleetId" if has_fleets(cluster) else "InstanceGroupId"
    found: list[Answer] = []
    for collection in _collections(cluster):
        for number, (market, instance_type) in enumerate(collection.nodes):
            node = len(found) + 1
            found.append(
                {
                    "Id": f"ci-{collection.id[3:]}{number:04d}",
                    "Ec2InstanceId": "i-" + hashlib.sha256(f"{cluster.id}/{node}".encode()).hexdigest()[:17],
                    "PrivateIpAddress": "127.0.0.1",
                    "PrivateDnsName": "localhost",
                    belongs: collection.id,
                    "Market": market,
                    "InstanceType": instance_type,
                    "EbsVolumes": [],
                    "Status": status,
                }
            )
    return found


def roles(cluster: Cluster) -> dict[str, str]:
    """Give MASTER, CORE or TASK by the id of each group or fleet."""
    return {collection.id: collection.role for collection in _collections(cluster)}


def primary_instance(cluster: Cluster) -> str:
    """Give the id by which EC2 knows the primary node."""
    return next(
        str(one["Ec2InstanceId"])
        for one in instances(cluster)
        if roles(cluster)[one.get("InstanceFleetId") or one["InstanceGroupId"]] == "MASTER"
    )


def scarce_type(cluster: Cluster) -> str:
    """Give the instance type that EC2 is likeliest to be out of: that of the core nodes, else of the primary one."""
    by_role = {collection.role: collection.nodes[0][1] for collection in _collections(cluster) if collection.nodes}
    return by_role.get("CORE") or by_role["MASTER"]


def _collections(cluster: Cluster) -> Iterator[_Collection]:
    asked = cluster.request["Instances"]
    if has_fleets(cluster):
        for number, fleet in enumerate(asked["InstanceFleets"]):
            yield _Collection(_fleet_id(cluster, number), fleet["InstanceFleetType"], tuple(_fleet_nodes(fleet)))
        return
    for number, group in enumerate(requested_groups(asked)):
        node = (group.get("Market", "ON_DEMAND"), group["InstanceType"])
        yield _Collection(_group_id(cluster, number), group["InstanceRole"], (node,) * group["InstanceCount"])


def _fleet_nodes(fleet: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Provision a fleet the simplest way: its first type, until the targets are met."""
    first = fleet["InstanceTypeConfigs"][0]
    for market, target in _MARKETS:
        for _ in range(-(-fleet.get(target, 0) // first.get("WeightedCapacity", 1))):
            yield market, first["InstanceType"]


def _status(cluster: Cluster) -> Answer:
    times = {"CreationDateTime": cluster.created, "ReadyDateTime": cluster.ready, "EndDateTime": cluster.ended}
    state = _NODE_STATES.get(cluster.state, "TERMINATED")
    return {"State": state, "StateChangeReason": {}, "Timeline": filled(times)}


def _group_id(cluster: Cluster, number: int) -> str:
    return f"ig-{cluster.id[2:]}{number}"


def _fleet_id(cluster: Cluster, number: int) -> str:
    return f"if-{cluster.id[2:]}{number}"
