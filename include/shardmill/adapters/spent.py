"""Read from EMR what a run's clusters came to: ended ones too, node by node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from shardmill.core.spent import Times, cluster_hours
from shardmill.specs.spent import SpentCluster, SpentStep

_CLOCKS_APART = timedelta(minutes=5)
"""Between Airflow and EMR, at most."""


def find_spent(emr: Any, works: Mapping[str, str], since: datetime, now: datetime) -> tuple[SpentCluster, ...]:
    """Find all clusters of a run, in whatever state they are, the oldest first, without prices.

    Args:
        works: what clusters do, by their name.
        since: when the run was planned; older clusters of these names are not its own.
        now: up to which those are counted that are alive.
    """
    pages = emr.get_paginator("list_clusters").paginate(CreatedAfter=since - _CLOCKS_APART)
    found = [cluster for page in pages for cluster in page["Clusters"] if cluster["Name"] in works]
    found.sort(key=lambda cluster: (cluster["Status"]["Timeline"]["CreationDateTime"], cluster["Id"]))
    return tuple(_cluster(emr, cluster, works[cluster["Name"]], now) for cluster in found)


def _cluster(emr: Any, cluster: Mapping[str, Any], work: str, now: datetime) -> SpentCluster:
    status, cluster_id = cluster["Status"], cluster["Id"]
    reason = status.get("StateChangeReason") or {}
    life = _times(status["Timeline"])
    nodes = [
        (_node_name(node), _times(node["Status"].get("Timeline", {})))
        for page in emr.get_paginator("list_instances").paginate(ClusterId=cluster_id)
        for node in page["Instances"]
    ]
    hours, node_hours = cluster_hours(life, nodes, now)
    return SpentCluster(
        work=work,
        id=cluster_id,
        state=status["State"],
        reason=": ".join(str(reason[key]) for key in ("Code", "Message") if reason.get(key)),
        created=_iso(life.created),
        ready=_iso(status["Timeline"].get("ReadyDateTime")),
        ended=_iso(life.ended),
        hours=hours,
        node_hours=node_hours,
        steps=tuple(_steps(emr, cluster_id, life.ended or now)),
    )


def _steps(emr: Any, cluster_id: str, end: datetime) -> Iterator[SpentStep]:
    """Give the steps, the oldest first."""
    steps = [step for page in emr.get_paginator("list_steps").paginate(ClusterId=cluster_id) for step in page["Steps"]]
    for step in reversed(steps):  # EMR lists the newest first
        times = step["Status"].get("Timeline", {})
        started, ended = times.get("StartDateTime"), times.get("EndDateTime") or end
        hours = max(0.0, (ended - started).total_seconds()) / 3600 if started else None
        yield SpentStep(name=step["Name"], state=step["Status"]["State"], hours=hours)


def _node_name(node: Mapping[str, Any]) -> str:
    return f"{node['InstanceType']} spot" if node.get("Market") == "SPOT" else str(node["InstanceType"])


def _times(timeline: Mapping[str, Any]) -> Times:
    return Times(timeline.get("CreationDateTime"), timeline.get("EndDateTime"))


def _iso(moment: datetime | None) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds") if moment else ""
