"""What EMR refuses of instance groups and fleets: from its API reference (InstanceFleetConfig, InstanceTypeConfig,
SpotProvisioningSpecification) and Management Guide (emr-instance-fleet)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shardmill.localcloud.releases import RETIRED_FAMILIES, instance_types
from shardmill.localcloud.request_refused import RefusedError

MAX_TYPES, MAX_TYPES_WITH_STRATEGY = 5, 30
MIN_SPOT_MINUTES, MAX_SPOT_MINUTES = 5, 1440
_SHORT_FORM = ("MasterInstanceType", "SlaveInstanceType", "InstanceCount")


def check_nodes(label: str, instances: Mapping[str, Any]) -> None:
    """Refuse nodes that EMR refuses."""
    groups, fleets = instances.get("InstanceGroups") or (), instances.get("InstanceFleets") or ()
    if groups and fleets:
        raise RefusedError("InstanceGroups and InstanceFleets are mutually exclusive: specify one of them.")
    short = [name for name in _SHORT_FORM if instances.get(name)]
    if (groups or fleets) and short:
        used = "InstanceGroups" if groups else "InstanceFleets"
        raise RefusedError(f"Specify either {used} or {short[0]}, not both.")
    if fleets:
        _check_roles("fleet", [fleet["InstanceFleetType"] for fleet in fleets])
        for fleet in fleets:
            _check_fleet(fleet)
    elif groups:
        _check_roles("group", [group["InstanceRole"] for group in groups])
        for group in groups:
            _check_group(group)
    types = requested_types(instances)
    if not types:
        raise RefusedError("Instances: specify InstanceGroups, InstanceFleets or MasterInstanceType.")
    for name in types:
        _check_type(label, name)


def requested_types(instances: Mapping[str, Any]) -> list[str]:
    """List the instance types that a request names, in its order."""
    types = [group["InstanceType"] for group in instances.get("InstanceGroups") or ()]
    for fleet in instances.get("InstanceFleets") or ():
        types += [config["InstanceType"] for config in fleet.get("InstanceTypeConfigs") or ()]
    return types + [instances[key] for key in ("MasterInstanceType", "SlaveInstanceType") if instances.get(key)]


def _check_roles(what: str, roles: Sequence[str]) -> None:
    if roles.count("MASTER") != 1:
        raise RefusedError(f"Exactly one MASTER instance {what} is required, found {roles.count('MASTER')}.")
    # A cluster has many task groups, but one task fleet.
    for role in ("CORE", "TASK") if what == "fleet" else ("CORE",):
        if roles.count(role) > 1:
            raise RefusedError(f"At most one {role} instance {what} is allowed, found {roles.count(role)}.")
    if "TASK" in roles and "CORE" not in roles:
        raise RefusedError(f"A TASK instance {what} needs a CORE instance {what}.")


def _check_group(group: Mapping[str, Any]) -> None:
    role, count = group["InstanceRole"], group["InstanceCount"]
    if count < 1 or (role == "MASTER" and count not in (1, 3)):
        expected = "1 or 3" if role == "MASTER" else "at least 1"
        raise RefusedError(f"InstanceCount of the {role} instance group must be {expected}, found {count}.")
    if group.get("BidPrice") and group.get("Market", "SPOT") != "SPOT":
        raise RefusedError(f"BidPrice of the {role} instance group: only Market SPOT takes one.")


def _check_fleet(fleet: Mapping[str, Any]) -> None:
    role, configs = fleet["InstanceFleetType"], fleet.get("InstanceTypeConfigs") or ()
    specifications = fleet.get("LaunchSpecifications") or {}
    on_demand, spot = fleet.get("TargetOnDemandCapacity", 0), fleet.get("TargetSpotCapacity", 0)
    if role == "MASTER" and (on_demand, spot) not in ((1, 0), (0, 1)):
        raise RefusedError(
            "The MASTER instance fleet needs a TargetOnDemandCapacity or a TargetSpotCapacity of 1, "
            f"found {on_demand} and {spot}."
        )
    if on_demand + spot < 1:
        raise RefusedError(
            f"The {role} instance fleet needs a TargetOnDemandCapacity or TargetSpotCapacity above 0, found none."
        )
    strategies = [one.get("AllocationStrategy") for one in specifications.values()]
    most = MAX_TYPES_WITH_STRATEGY if any(strategies) else MAX_TYPES
    if not 1 <= len(configs) <= most:
        raise RefusedError(f"The {role} instance fleet takes 1 to {most} InstanceTypeConfigs, found {len(configs)}.")
    _check_spot(specifications)
    for config in configs:
        _check_config(role, config)


def _check_spot(specifications: Mapping[str, Any]) -> None:
    asked = specifications.get("SpotSpecification")
    if asked is None:
        return
    minutes = asked["TimeoutDurationMinutes"]
    if not MIN_SPOT_MINUTES <= minutes <= MAX_SPOT_MINUTES:
        raise RefusedError(
            f"TimeoutDurationMinutes must be between {MIN_SPOT_MINUTES} and {MAX_SPOT_MINUTES}, found {minutes}."
        )
    if asked["TimeoutAction"] not in ("SWITCH_TO_ON_DEMAND", "TERMINATE_CLUSTER"):
        raise RefusedError(
            f"TimeoutAction must be SWITCH_TO_ON_DEMAND or TERMINATE_CLUSTER, found {asked['TimeoutAction']}."
        )
    if asked.get("BlockDurationMinutes"):
        raise RefusedError("BlockDurationMinutes: EC2 has no Spot Instances with a defined duration any more.")


def _check_config(role: str, config: Mapping[str, Any]) -> None:
    weight = config.get("WeightedCapacity", 1)
    if weight < 1 or (role == "MASTER" and weight != 1):
        expected = "1" if role == "MASTER" else "at least 1"
        raise RefusedError(f"WeightedCapacity in the {role} instance fleet must be {expected}, found {weight}.")
    if config.get("BidPrice") and config.get("BidPriceAsPercentageOfOnDemandPrice") is not None:
        raise RefusedError("Specify either BidPrice or BidPriceAsPercentageOfOnDemandPrice, not both.")


def _check_type(label: str, name: str) -> None:
    retired = name.partition(".")[0] in RETIRED_FAMILIES
    if name not in instance_types(label) and not retired:
        raise RefusedError(f"Instance type '{name}' is not supported by release {label}.")
    if retired:
        raise RefusedError(f"Instance type '{name}' is retired: EMR lists it, EC2 does not start it any more.")
