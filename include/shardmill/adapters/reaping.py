"""Our clusters as EMR lists them, and their end; nothing without our tag is touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from shardmill.core.cluster_lives import ALIVE
from shardmill.core.reaping import OURS, TAG, Node

DEFAULT_VOLUME_GIB = 15
"""EMR's own root volume, where none was asked for."""
AWS_ERRORS = (BotoCoreError, ClientError)


@dataclass(frozen=True)
class FoundCluster:
    """A live cluster that carries our tag."""

    id: str
    name: str
    state: str
    created: datetime
    tags: Mapping[str, str]
    volume_gib: int
    protected: bool = False
    """From termination."""


def clusters_alive(emr: Any) -> tuple[list[FoundCluster], list[str]]:
    """Find the live clusters with our tag.

    A listing tells no tags, so each live cluster of the account is described.

    Returns:
        The clusters, the oldest first, and what could not be described.
    """
    found, problems = [], []
    pages = emr.get_paginator("list_clusters").paginate(ClusterStates=list(ALIVE))
    for listed in [cluster for page in pages for cluster in page["Clusters"]]:
        try:
            details = emr.describe_cluster(ClusterId=listed["Id"])["Cluster"]
        except AWS_ERRORS as error:
            problems.append(f"{listed['Id']} ({listed['Name']}) was not described: {error}")
            continue
        tags = {tag["Key"]: tag.get("Value", "") for tag in details.get("Tags", ())}
        if tags.get(TAG) == OURS and details["Status"]["State"] in ALIVE:
            found.append(_found(details, tags))
    return sorted(found, key=lambda cluster: (cluster.created, cluster.id)), problems


def _found(details: Mapping[str, Any], tags: Mapping[str, str]) -> FoundCluster:
    return FoundCluster(
        id=details["Id"],
        name=details["Name"],
        state=details["Status"]["State"],
        created=details["Status"]["Timeline"]["CreationDateTime"],
        tags=tags,
        volume_gib=details.get("EbsRootVolumeSize") or DEFAULT_VOLUME_GIB,
        protected=bool(details.get("TerminationProtected")),
    )


def end_cluster(emr: Any, cluster: FoundCluster) -> None:
    """Ask for a cluster's end, protected or not. Raises one of AWS_ERRORS."""
    if cluster.protected:
        emr.set_termination_protection(JobFlowIds=[cluster.id], TerminationProtected=False)
    emr.terminate_job_flows(JobFlowIds=[cluster.id])


def cluster_nodes(emr: Any, cluster_id: str) -> Iterator[Node]:
    """List the instances that a cluster has and had, of groups and of fleets. Raises one of AWS_ERRORS."""
    for page in emr.get_paginator("list_instances").paginate(ClusterId=cluster_id):
        for instance in page["Instances"]:
            timeline = instance["Status"]["Timeline"]
            if "CreationDateTime" in timeline:
                yield Node(
                    instance_type=instance["InstanceType"],
                    market=instance.get("Market", "ON_DEMAND"),
                    started=timeline["CreationDateTime"],
                    ended=timeline.get("EndDateTime"),
                )
