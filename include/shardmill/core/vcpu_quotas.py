"""EC2's quotas of vCPUs: which of them an instance counts against, by the family that its type's name begins with."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Quota:
    """A quota of running vCPUs."""

    code: str
    """As Service Quotas names it."""
    name: str
    spot: bool = False


_STANDARD = ("a", "c", "d", "h", "i", "m", "r", "t", "z")
_FAMILIES: dict[tuple[str, ...], tuple[Quota, Quota]] = {
    _STANDARD: (
        Quota("L-1216C47A", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances"),
        Quota("L-34B43A08", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", spot=True),
    ),
    ("g", "gr", "vt"): (
        Quota("L-DB2E81BA", "Running On-Demand G and VT instances"),
        Quota("L-3819A6DF", "All G and VT Spot Instance Requests", spot=True),
    ),
    ("p",): (
        Quota("L-417A185B", "Running On-Demand P instances"),
        Quota("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests", spot=True),
    ),
}
_SERIES = re.compile(r"[a-z]+")
_DENSE = re.compile(r"i[ms]\d")
"""Im4gn and Is4gen are storage instances of the standard quota."""


def quota_of(instance_type: str, *, spot: bool) -> Quota | None:
    """Name the quota that an instance counts against; None for families that clusters of ours have no use for."""
    series = _SERIES.match(instance_type)
    letters = "i" if _DENSE.match(instance_type) else series[0] if series else ""
    if spot and letters == "p" and not instance_type.startswith(("p2.", "p3.", "p3dn.", "p4")):
        return None
    for families, (on_demand, of_spot) in _FAMILIES.items():
        if letters in families:
            return of_spot if spot else on_demand
    return None
