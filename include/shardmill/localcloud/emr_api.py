"""EMR's operations: read a request, refuse it or change the account's clusters, answer."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from shardmill.localcloud import emr_answers as answers
from shardmill.localcloud import emr_state as states
from shardmill.localcloud import refusals
from shardmill.localcloud.cluster_table import ClusterTable
from shardmill.localcloud.emr_state import Cluster, Reason, Step
from shardmill.localcloud.refusals import Holdings, RefusedError
from shardmill.localcloud.releases import RELEASE_LABELS, instance_types

Request = Mapping[str, Any]
Answer = dict[str, Any]
_ID_CHARACTERS = string.ascii_uppercase + string.digits
_PAGE = 50


def new_id(prefix: str) -> str:
    """Make an id in EMR's manner, such as ``j-3AXXXXXXXX4PG``."""
    return f"{prefix}-" + "".join(secrets.choice(_ID_CHARACTERS) for _ in range(13))


def _new_steps(requested: Any, concurrency: int, now: float) -> tuple[Step, ...]:
    def make(step: Request) -> Step:
        jar = step["HadoopJarStep"]
        return Step(
            id=new_id("s"),
            name=step["Name"],
            jar=jar["Jar"],
            arguments=tuple(jar.get("Args", ())),
            created=now,
            on_failure=step.get("ActionOnFailure", "TERMINATE_CLUSTER" if concurrency == 1 else "CONTINUE"),
            main_class=jar.get("MainClass", ""),
            properties={pair["Key"]: pair["Value"] for pair in jar.get("Properties", ())},
        )

    return tuple(make(step) for step in requested)


class EmrApi:
    """EMR of one account; ``holdings`` tells what it holds of the things that a request names."""

    def __init__(self, table: ClusterTable, holdings: Callable[[], Holdings], region: str) -> None:
        self._table = table
        self._holdings = holdings
        self._region = region
        self.operations: dict[str, Callable[[Request], Answer]] = {
            "RunJobFlow": self.run_job_flow,
            "DescribeCluster": lambda request: {
                "Cluster": answers.cluster_details(self._cluster(request["ClusterId"]), region)
            },
            "ListClusters": self.list_clusters,
            "TerminateJobFlows": self.terminate_job_flows,
            "SetTerminationProtection": self.set_termination_protection,
            "SetKeepJobFlowAliveWhenNoSteps": self.set_keep_alive,
            "ModifyCluster": self.modify_cluster,
            "ListInstanceGroups": lambda request: {
                "InstanceGroups": answers.instance_groups(self._cluster(request["ClusterId"]))
            },
            "ListInstances": self.list_instances,
            "ListBootstrapActions": self.list_bootstrap_actions,
            "AddJobFlowSteps": self.add_job_flow_steps,
            "ListSteps": self.list_steps,
            "DescribeStep": self.describe_step,
            "CancelSteps": self.cancel_steps,
            "AddTags": self.add_tags,
            "RemoveTags": self.remove_tags,
            "PutAutoTerminationPolicy": self.put_auto_termination_policy,
            "GetAutoTerminationPolicy": self.get_auto_termination_policy,
            "RemoveAutoTerminationPolicy": self.remove_auto_termination_policy,
            "ListReleaseLabels": lambda request: {"ReleaseLabels": list(RELEASE_LABELS)},
            "ListSupportedInstanceTypes": self.list_supported_instance_types,
        }

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

    def run_job_flow(self, request: Request) -> Answer:
        refusals.check_cluster(request, self._holdings())
        now, concurrency = self._table.clock(), request.get("StepConcurrencyLevel", 1)
        policy = request.get("AutoTerminationPolicy")
        cluster = Cluster(
            id=new_id("j"),
            request=request,
            created=now,
            steps=_new_steps(request.get("Steps", ()), concurrency, now),
            keeps_alive=bool(request["Instances"].get("KeepJobFlowAliveWhenNoSteps", False)),
            protected=bool(request["Instances"].get("TerminationProtected", False)),
            concurrency=concurrency,
            idle_timeout=policy["IdleTimeout"] if policy else None,
            tags={tag["Key"]: tag.get("Value", "") for tag in request.get("Tags", ())},
        )
        self._table.add(cluster)
        return {"JobFlowId": cluster.id, "ClusterArn": answers.arn(cluster, self._region)}

    def list_clusters(self, request: Request) -> Answer:
        wanted = request.get("ClusterStates") or (*states.ALIVE, "TERMINATING", *states.ENDED)
        after, before = request.get("CreatedAfter", 0.0), request.get("CreatedBefore", float("inf"))
        found = [
            answers.cluster_summary(cluster, self._region)
            for cluster in self._table.all()
            if cluster.state in wanted and after <= cluster.created <= before
        ]
        return _page("Clusters", found, request)

    def terminate_job_flows(self, request: Request) -> Answer:
        clusters = [self._job_flow(cluster_id) for cluster_id in request["JobFlowIds"]]
        if any(cluster.protected and cluster.state in states.ALIVE for cluster in clusters):
            raise RefusedError("Could not shut down one or more job flows since they are termination protected.")
        now, reason = self._table.clock(), Reason("USER_REQUEST", "Terminated by user request")
        for cluster in clusters:
            self._table.change(cluster.id, lambda known: states.terminating(known, reason, now))
        return {}

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

    def list_instances(self, request: Request) -> Answer:
        cluster = self._cluster(request["ClusterId"])
        groups = {group["Id"]: group["InstanceGroupType"] for group in answers.instance_groups(cluster)}
        types, group_id = request.get("InstanceGroupTypes") or (), request.get("InstanceGroupId")
        wanted = request.get("InstanceStates") or ()
        found = [
            instance
            for instance in answers.instances(cluster)
            if (not types or groups[instance["InstanceGroupId"]] in types)
            and (not group_id or instance["InstanceGroupId"] == group_id)
            and (not wanted or instance["Status"]["State"] in wanted)
        ]
        return _page("Instances", found, request)

    def list_bootstrap_actions(self, request: Request) -> Answer:
        actions = self._cluster(request["ClusterId"]).request.get("BootstrapActions", ())
        return {
            "BootstrapActions": [
                {
                    "Name": action["Name"],
                    "ScriptPath": action["ScriptBootstrapAction"]["Path"],
                    "Args": list(action["ScriptBootstrapAction"].get("Args", ())),
                }
                for action in actions
            ]
        }

    def add_job_flow_steps(self, request: Request) -> Answer:
        cluster, now = self._job_flow(request["JobFlowId"]), self._table.clock()
        added: list[Step] = []

        def add(known: Cluster) -> Cluster:
            refusals.check_new_steps(known, request["Steps"])
            added.extend(_new_steps(request["Steps"], known.concurrency, now))
            return states.add_steps(known, added, now)

        self._table.change(cluster.id, add)
        return {"StepIds": [step.id for step in added]}

    def list_steps(self, request: Request) -> Answer:
        cluster = self._cluster(request["ClusterId"])
        wanted, ids = request.get("StepStates") or (), request.get("StepIds") or ()
        found = [
            answers.step_details(step)
            for step in reversed(cluster.steps)
            if (not wanted or step.state in wanted) and (not ids or step.id in ids)
        ]
        return _page("Steps", found, request)

    def describe_step(self, request: Request) -> Answer:
        step = self._cluster(request["ClusterId"]).step(request["StepId"])
        if step is None:
            raise RefusedError(f"Step id '{request['StepId']}' is not valid.", "InvalidRequestException")
        return {"Step": answers.step_details(step)}

    def cancel_steps(self, request: Request) -> Answer:
        cluster, now = self._cluster(request["ClusterId"]), self._table.clock()
        results: list[Answer] = []

        def cancel(known: Cluster) -> Cluster:
            for step_id in request["StepIds"]:
                known, refusal = states.cancel_step(known, step_id, now)
                status = {"Status": "FAILED", "Reason": refusal} if refusal else {"Status": "SUBMITTED"}
                results.append({"StepId": step_id, **status})
            return known

        self._table.change(cluster.id, cancel)
        return {"CancelStepsInfoList": results}

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

    def list_supported_instance_types(self, request: Request) -> Answer:
        label = request["ReleaseLabel"]
        if label not in RELEASE_LABELS:
            raise RefusedError(f"The supplied release label is invalid: {label}.", "InvalidRequestException")
        # The retired ones too: EMR names them, only the start of a cluster with them fails.
        return _page("SupportedInstanceTypes", [{"Type": name} for name in sorted(instance_types(label))], request)


def _page(name: str, found: list[Answer], request: Request) -> Answer:
    marker = request.get("Marker") or "0"
    if not marker.isdigit():
        raise RefusedError(f"Marker '{marker}' is not valid.", "InvalidRequestException")
    start = int(marker)
    page: Answer = {name: found[start : start + _PAGE]}
    if start + _PAGE < len(found):
        page["Marker"] = str(start + _PAGE)
    return page
