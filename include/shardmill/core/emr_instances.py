"""The nodes of a cluster as EMR takes them: instance groups of one type each, or instance fleets."""

from __future__ import annotations

from typing import Any

from shardmill.specs.cluster import ClusterSpec


def instances(cluster: ClusterSpec) -> dict[str, Any]:
    """Give ``Instances`` of RunJobFlow: master and core nodes on demand, task nodes on the spot market or none."""
    common = {"KeepJobFlowAliveWhenNoSteps": True, "TerminationProtected": False}
    if cluster.nodes == "fleets":
        subnet: dict[str, Any] = {"Ec2SubnetIds": [cluster.subnet_id]} if cluster.subnet_id else {}
        return {"InstanceFleets": _fleets(cluster), **common, **subnet}
    subnet = {"Ec2SubnetId": cluster.subnet_id} if cluster.subnet_id else {}
    return {"InstanceGroups": _groups(cluster), **common, **subnet}


def _groups(cluster: ClusterSpec) -> list[dict[str, Any]]:
    groups = [
        _group("primary", "MASTER", cluster.master_type, 1),
        _group("core", "CORE", cluster.core_type, cluster.core_count),
    ]
    if cluster.spot_count:
        # Without a bid: at most the price on demand.
        groups.append(_group("task", "TASK", cluster.task_types[0], cluster.spot_count) | {"Market": "SPOT"})
    return groups


def _group(name: str, role: str, instance_type: str, count: int) -> dict[str, Any]:
    return {
        "Name": name,
        "InstanceRole": role,
        "InstanceType": instance_type,
        "InstanceCount": count,
        "Market": "ON_DEMAND",
    }


def _fleets(cluster: ClusterSpec) -> list[dict[str, Any]]:
    fleets = [
        _fleet("primary", "MASTER", (cluster.master_type,)) | {"TargetOnDemandCapacity": 1},
        _fleet("core", "CORE", (cluster.core_type,)) | {"TargetOnDemandCapacity": cluster.core_count},
    ]
    if cluster.spot_count:
        spot = {
            "TimeoutDurationMinutes": cluster.spot_timeout_minutes,
            "TimeoutAction": cluster.spot_timeout_action,
            "AllocationStrategy": cluster.spot_strategy,
        }
        task = _fleet("task", "TASK", cluster.task_types)
        if cluster.spot_strategy == "capacity-optimized-prioritized":
            for rank, each in enumerate(task["InstanceTypeConfigs"]):
                each["Priority"] = float(rank)  # the lowest number comes first
        fleets.append(
            task | {"TargetSpotCapacity": cluster.spot_count, "LaunchSpecifications": {"SpotSpecification": spot}}
        )
    return fleets


def _fleet(name: str, role: str, types: tuple[str, ...]) -> dict[str, Any]:
    # Each node counts for one, whatever its type: workers are counted, not cores.
    configs: list[dict[str, Any]] = [{"InstanceType": one, "WeightedCapacity": 1} for one in types]
    return {"Name": name, "InstanceFleetType": role, "InstanceTypeConfigs": configs}
