"""What EMR offers, as data: the releases of 2026 and the instance types that EC2 no longer sells."""

from __future__ import annotations

from functools import cache

from moto.utilities.utils import load_resource

RELEASE_LABELS = (
    "emr-spark-8.0.0",
    *(f"emr-7.{minor}.0" for minor in range(14)),
    *("emr-6.0.0", "emr-6.0.1", "emr-6.1.0", "emr-6.1.1", "emr-6.2.0", "emr-6.2.1", "emr-6.3.0", "emr-6.3.1"),
    *("emr-6.4.0", "emr-6.5.0", "emr-6.6.0", "emr-6.7.0", "emr-6.8.0", "emr-6.8.1", "emr-6.9.0", "emr-6.9.1"),
    *("emr-6.10.0", "emr-6.10.1", "emr-6.11.0", "emr-6.11.1", "emr-6.12.0", "emr-6.13.0", "emr-6.14.0", "emr-6.15.0"),
)

RETIRED_FAMILIES = frozenset({"p2", "p3", "g2", "g3", "g3s", "cg1", "cr1", "cc2", "hs1", "f1"})
"""GPU and accelerator families that EMR's own list still names, or once named, and EC2 no longer starts."""

ROOT_VOLUME_GIB = {"emr-6.0": 10, "emr-6.1": 10, "emr-6.2": 10, "emr-6.3": 10, "emr-6.4": 10, "emr-6.5": 10}
ROOT_VOLUME_GIB |= {"emr-6.6": 10, "emr-6.7": 10, "emr-6.8": 10, "emr-6.9": 10}
DEFAULT_ROOT_VOLUME_GIB = 15


def smallest_root_volume(release_label: str) -> int:
    """Give the smallest root volume that a release takes, in GiB."""
    return ROOT_VOLUME_GIB.get(release_label.rpartition(".")[0], DEFAULT_ROOT_VOLUME_GIB)


@cache
def instance_types(release_label: str) -> frozenset[str]:
    """Give the instance types that EMR lists for a release, retired ones included (moto's dump of EMR's answers)."""
    return frozenset(load_resource(f"emr/resources/instance-types-{release_label}.json"))


def architectures(instance_type: str) -> tuple[str, ...]:
    """Give the architectures that an instance type runs, such as ``("x86_64",)``; empty where it is not known."""
    from moto.ec2.models.instance_types import INSTANCE_TYPES  # megabytes, which the server has in memory anyway

    return tuple(INSTANCE_TYPES.get(instance_type, {}).get("ProcessorInfo", {}).get("SupportedArchitectures", ()))
