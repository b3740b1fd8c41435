"""EMR's operations that change what a cluster was asked to be: its protection, tags, and when it ends by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from shardmill.localcloud import refusals
from shardmill.localcloud.cluster_table import ClusterTable
from shardmill.localcloud.emr_state import Cluster
from shardmill.localcloud.request_refused import RefusedError

Request = Mapping[str, Any]
Answer = dict[str, Any]


class ClusterFinder:
    """Finds the clusters that requests name; the older operations have other words for one that is not there."""

    def __init__(self, table: ClusterTable) -> None:
        self._table = table

    def _cluster(self, cluster_id: str) -> Cluster:
        cluster = self._table.find(cluster_id)
        if cluster is None:
            raise RefusedError(f"Cluster id '{cluster_id}' is not valid.", "InvalidRequestException")
        return cluster

    def _job_flow(self, cluster_id: str) -> Cluster:
        cluster = self._table.find(cluster_id)
        if cluster is None:
            raise RefusedError("Specified job flow ID does not exist.")
        return cluster


class ClusterSettings(ClusterFinder):
    """The operations, by name."""

    def __init__(self, table: ClusterTable) -> None:
        super().__init__(table)
        self.operations: dict[str, Callable[[Request], Answer]] = {
            "SetTerminationProtection": self.set_termination_protection,
            "SetKeepJobFlowAliveWhenNoSteps": self.set_keep_alive,
            "ModifyCluster": self.modify_cluster,
            "AddTags": self.add_tags,
            "RemoveTags": self.remove_tags,
            "PutAutoTerminationPolicy": self.put_auto_termination_policy,
            "GetAutoTerminationPolicy": self.get_auto_termination_policy,
            "RemoveAutoTerminationPolicy": self.remove_auto_termination_policy,
        }

    def set_termination_protection(self, request: Request) -> Answer:
        for cluster in [self._job_flow(cluster_id) for cluster_id in request["JobFlowIds"]]:
            self._table.change(cluster.id, lambda known: replace(known, protected=request["TerminationProtected"]))
        return {}

    def set_keep_alive(self, request: Request) -> Answer:
        for cluster in [self._job_flow(cluster_id) for cluster_id in request["JobFlowIds"]]:
            keeps = request["KeepJobFlowAliveWhenNoSteps"]
            self._table.change(cluster.id, partial(replace, keeps_alive=keeps))
        return {}

    def modify_cluster(self, request: Request) -> Answer:
        cluster = self._cluster(request["ClusterId"])
        level = refusals.check_concurrency(request.get("StepConcurrencyLevel", cluster.concurrency))
        self._table.change(cluster.id, lambda known: replace(known, concurrency=level))
        return {"StepConcurrencyLevel": level}

    def add_tags(self, request: Request) -> Answer:
        cluster = self._cluster(request["ResourceId"])
        new = {tag["Key"]: tag.get("Value", "") for tag in request["Tags"]}
        self._table.change(cluster.id, lambda known: replace(known, tags={**known.tags, **new}))
        return {}

    def remove_tags(self, request: Request) -> Answer:
        cluster, gone = self._cluster(request["ResourceId"]), set(request["TagKeys"])
        self._table.change(
            cluster.id,
            lambda known: replace(known, tags={key: tag for key, tag in known.tags.items() if key not in gone}),
        )
        return {}

    def put_auto_termination_policy(self, request: Request) -> Answer:
        cluster = self._cluster(request["ClusterId"])
        seconds = refusals.check_idle_timeout(request.get("AutoTerminationPolicy") or {})
        self._table.change(cluster.id, lambda known: replace(known, idle_timeout=seconds))
        return {}

    def get_auto_termination_policy(self, request: Request) -> Answer:
        seconds = self._cluster(request["ClusterId"]).idle_timeout
        return {} if seconds is None else {"AutoTerminationPolicy": {"IdleTimeout": seconds}}

    def remove_auto_termination_policy(self, request: Request) -> Answer:
        cluster = self._cluster(request["ClusterId"])
        self._table.change(cluster.id, lambda known: replace(known, idle_timeout=None))
        return {}
