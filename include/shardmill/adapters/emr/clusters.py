"""Clusters: at most one for a run and its work, whatever was killed or lost on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from shardmill.adapters.emr.calls import ClusterLostError, send_once
from shardmill.core.cluster_lives import ALIVE, ClusterLife

_OURS = "shardmill-"
"""How the names of all our clusters begin."""
_AT_ONCE = 10
"""TerminateJobFlows takes no more."""


def live_clusters(emr: Any, name: str, states: Sequence[str] = ALIVE) -> list[str]:
    """List the ids of the clusters of this name that are alive, the oldest first."""
    found = [cluster for cluster in _listed(emr, states) if cluster["Name"] == name]
    found.sort(key=lambda cluster: (cluster["Status"]["Timeline"]["CreationDateTime"], cluster["Id"]))
    return [cluster["Id"] for cluster in found]


def _listed(emr: Any, states: Sequence[str], **more: Any) -> Iterator[dict[str, Any]]:
    wanted = {"ClusterStates": list(states)} if states else {}
    for page in emr.get_paginator("list_clusters").paginate(**wanted, **more):
        yield from page["Clusters"]


def cluster_lives(emr: Any, name: str, since: datetime) -> list[ClusterLife]:
    """Tell of every cluster of this name that was made since then, ended ones too, the oldest first."""
    ids = [cluster["Id"] for cluster in _listed(emr, (), CreatedAfter=since) if cluster["Name"] == name]
    return sorted((describe_life(emr, cluster_id) for cluster_id in ids), key=lambda life: (life.created, life.id))


def describe_life(emr: Any, cluster_id: str) -> ClusterLife:
    """Tell of a cluster, ended or not."""
    cluster = emr.describe_cluster(ClusterId=cluster_id)["Cluster"]
    status = cluster["Status"]
    reason, timeline = status.get("StateChangeReason") or {}, status.get("Timeline") or {}
    tags = {tag["Key"]: tag.get("Value", "") for tag in cluster.get("Tags") or ()}
    return ClusterLife(
        id=cluster_id,
        state=status["State"],
        created=timeline["CreationDateTime"],
        ready=timeline.get("ReadyDateTime"),
        ended=timeline.get("EndDateTime"),
        code=reason.get("Code", ""),
        message=reason.get("Message", ""),
        error_codes=tuple(one["ErrorCode"] for one in status.get("ErrorDetails") or () if one.get("ErrorCode")),
        log_uri=cluster.get("LogUri") or "",
        tags=tags,
    )


def ensure_cluster(emr: Any, emr_once: Any, request: Mapping[str, Any]) -> tuple[str, bool]:
    """Join the live cluster of the request's name, the oldest if there are several, or create it.

    RunJobFlow takes no idempotency token, so it is sent by a client that never sends twice, and what came of it
    is told by the listing. Two may be made at once all the same: ``end_surplus`` is to be called behind this.

    Args:
        emr: a client of boto3.
        emr_once: a client that makes one attempt only.

    Returns:
        The cluster's id, and whether this call asked for it.

    Raises:
        RefusedError: the request is wrong.
    """
    name = request["Name"]
    if found := live_clusters(emr, name):
        return found[0], False
    told, lost = send_once(lambda: str(emr_once.run_job_flow(**request)["JobFlowId"]), "the cluster")
    found = live_clusters(emr, name) or ([told] if told else [])  # a listing may lag behind
    if not found:
        raise ClusterLostError(f"no cluster {name} came up: {lost or 'it ended at once'}") from lost
    return found[0], True


def end_surplus(emr: Any, name: str) -> tuple[str, ...]:
    """End all live clusters of a name but the oldest.

    A request that was under way when its sender was killed arrives later: who looks again finds its cluster younger.
    Whoever looks, and whatever it works with, spares the same one.

    Returns:
        The ids of those that are being ended.
    """
    surplus = live_clusters(emr, name)[1:]
    terminate(emr, surplus)
    return tuple(surplus)


def terminate(emr: Any, cluster_ids: Sequence[str]) -> None:
    """Ask for the end of clusters, protected or not."""
    for start in range(0, len(cluster_ids), _AT_ONCE):
        some = list(cluster_ids[start : start + _AT_ONCE])
        emr.set_termination_protection(JobFlowIds=some, TerminationProtected=False)
        emr.terminate_job_flows(JobFlowIds=some)


def cluster_status(emr: Any, cluster_id: str) -> tuple[str, str]:
    """Give a cluster's state and the reason for it, in words."""
    status = emr.describe_cluster(ClusterId=cluster_id)["Cluster"]["Status"]
    reason = status.get("StateChangeReason") or {}
    return status["State"], ": ".join(str(reason[key]) for key in ("Code", "Message") if reason.get(key))


def cluster_deadline(emr: Any, cluster_id: str) -> datetime:
    """Read from a cluster's tags when it must be gone."""
    tags = {tag["Key"]: tag["Value"] for tag in emr.describe_cluster(ClusterId=cluster_id)["Cluster"]["Tags"]}
    return datetime.fromisoformat(tags["deadline"])


def end_clusters(emr: Any, name: str, tags: Mapping[str, str] | None = None) -> list[str]:
    """Ask for the end of every live cluster of this name, or that has these tags whatever its name is.

    A listing has no tags, so of those with another name only such are described as may be ours by their name.

    Returns:
        The ids of those that are being ended, and of such as were ending already.
    """
    found: list[str] = []
    ending: list[str] = []
    for cluster in _listed(emr, (*ALIVE, "TERMINATING")):
        if cluster["Name"] == name or (tags and cluster["Name"].startswith(_OURS) and _has(emr, cluster["Id"], tags)):
            (ending if cluster["Status"]["State"] == "TERMINATING" else found).append(cluster["Id"])
    terminate(emr, found)
    return found + ending


def _has(emr: Any, cluster_id: str, tags: Mapping[str, str]) -> bool:
    known = describe_life(emr, cluster_id).tags
    return all(known.get(key, "") == value for key, value in tags.items())
