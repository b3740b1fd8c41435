"""Count what clusters came to: hours of nodes, and USD at the prices of the plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from shardmill.specs.run import RunClusters
from shardmill.specs.spent import RunSpent, SpentCluster


@dataclass(frozen=True)
class Times:
    """When something was made and when it ended; None where that is not known, or not so."""

    created: datetime | None
    ended: datetime | None


def cluster_hours(life: Times, nodes: Iterable[tuple[str, Times]], now: datetime) -> tuple[float, dict[str, float]]:
    """Count a cluster's hours, and those of its nodes by type.

    Nodes are counted from their launch to their end, and at least a minute, as EC2 does; a node without an end of its
    own ends with the cluster.
    """
    end = life.ended or now
    hours = _hours(life.created or end, end)
    by_type: dict[str, float] = {}
    for name, times in nodes:
        if times.created is not None:
            lived = max(1 / 60, _hours(times.created, min(times.ended or end, end)))
            by_type[name] = by_type.get(name, 0.0) + lived
    return hours, by_type


def _hours(start: datetime, end: datetime) -> float:
    return max(0.0, (end - start).total_seconds()) / 3600


def priced(clusters: Iterable[SpentCluster], planned: RunClusters | None) -> tuple[SpentCluster, ...]:
    """Put the plan's prices to what clusters came to; what the plan has no price for is named."""
    rates: dict[str, Mapping[str, float | None]] = (
        {each.work: each.node_usd for each in planned.clusters} if planned else {}
    )
    return tuple(_priced(cluster, rates.get(cluster.work, {})) for cluster in clusters)


def _priced(cluster: SpentCluster, rates: Mapping[str, float | None]) -> SpentCluster:
    known = {name: usd for name, usd in rates.items() if usd is not None}
    usd = sum(hours * known[name] for name, hours in cluster.node_hours.items() if name in known)
    unknown = tuple(name for name in cluster.node_hours if name not in known)
    return cluster.model_copy(update={"usd": usd, "unknown": unknown})


def merged(before: RunSpent | None, found: Sequence[SpentCluster], looked: str) -> RunSpent:
    """Bring what was known before up to date; a cluster that EMR no longer lists stays as it was."""
    by_id = {cluster.id: cluster for cluster in (*(before.clusters if before else ()), *found)}
    ordered = sorted(by_id.values(), key=lambda cluster: (cluster.created, cluster.id))
    return RunSpent(clusters=tuple(ordered), looked=looked)
