"""How many cores this process may use."""

from __future__ import annotations

from os import sched_getaffinity
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def usable_cores(cgroups: Path = CGROUPS, own: Path = OWN) -> int:
    """Count the cores that this process may run on, within the CPU quota of its container, at least 1.

    A quota (cgroup v2) of its own group or of one above it does not show in the affinity; a part of a core is left out.
    """
    return max(1, int(min([len(sched_getaffinity(0)), *_quotas(cgroups, own)])))


def _quotas(cgroups: Path, own: Path) -> list[float]:
    try:
        names = [line.removeprefix("0::/") for line in own.read_text().splitlines() if line.startswith("0::/")]
    except OSError:
        names = []
    place = Path(names[0] if names else "")
    return [quota for folder in (place, *place.parents) if (quota := _quota(cgroups / folder / "cpu.max"))]


def _quota(file: Path) -> float:
    """Read a quota in cores; 0 where there is none."""
    try:
        quota, period = file.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return 0.0  # no such group, or "max"
