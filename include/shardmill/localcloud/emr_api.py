"""EMR's operations: read a request, refuse it or change the account's clusters, answer."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Mapping
from typing import Any

from shardmill.localcloud import emr_answers as answers
from shardmill.localcloud import emr_nodes as nodes
from shardmill.localcloud import emr_state as states
from shardmill.localcloud import refusals
from shardmill.localcloud.cluster_settings import ClusterFinder, ClusterSettings
from shardmill.localcloud.cluster_table import ClusterTable
from shardmill.localcloud.emr_state import Cluster, Reason, Step
from shardmill.localcloud.refusals import Holdings
from shardmill.localcloud.releases import RELEASE_LABELS, instance_types
from shardmill.localcloud.request_refused import RefusedError
from shardmill.localcloud.security_configurations import SecurityConfigurations

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


class EmrApi(ClusterFinder):
    """EMR of one account; ``holdings`` tells what it holds of the things that a request names."""

    def __init__(self, table: ClusterTable, holdings: Callable[[], Holdings], region: str) -> None:
        super().__init__(table)
        self._holdings = holdings
        self._security = SecurityConfigurations(table.clock)
        self._region = region
        self.operations: dict[str, Callable[[Request], Answer]] = {
            "RunJobFlow": self.run_job_flow,
            "DescribeCluster": lambda request: {
                "Cluster": answers.cluster_details(self._cluster(request["ClusterId"]), region)
            },
            "ListClusters": self.list_clusters,
            "TerminateJobFlows": self.terminate_job_flows,
            "ListInstanceGroups": self.list_instance_groups,
            "ListInstanceFleets": self.list_instance_fleets,
            "ListInstances": self.list_instances,
            "ListBootstrapActions": self.list_bootstrap_actions,
            "AddJobFlowSteps": self.add_job_flow_steps,
            "ListSteps": self.list_steps,
            "DescribeStep": self.describe_step,
            "CancelSteps": self.cancel_steps,
            "ListReleaseLabels": lambda request: {"ReleaseLabels": list(RELEASE_LABELS)},
            "ListSupportedInstanceTypes": self.list_supported_instance_types,
            **ClusterSettings(table).operations,
            **self._security.operations,
        }

    def run_job_flow(self, request: Request) -> Answer:
        refusals.check_cluster(request, self._holdings())
        if name := request.get("SecurityConfiguration"):
            self._security.find(name)
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

    def list_instance_groups(self, request: Request) -> Answer:
        cluster = self._cluster(request["ClusterId"])
        if nodes.has_fleets(cluster):
            raise _mutually_exclusive("ListInstanceGroups", True)
        return {"InstanceGroups": nodes.instance_groups(cluster)}

    def list_instance_fleets(self, request: Request) -> Answer:
        cluster = self._cluster(request["ClusterId"])
        if not nodes.has_fleets(cluster):
            raise _mutually_exclusive("ListInstanceFleets", False)
        return {"InstanceFleets": nodes.instance_fleets(cluster)}

    def list_instances(self, request: Request) -> Answer:
        cluster = self._cluster(request["ClusterId"])
        fleets = nodes.has_fleets(cluster)
        foreign = ("InstanceGroupTypes", "InstanceGroupId") if fleets else ("InstanceFleetType", "InstanceFleetId")
        if given := [name for name in foreign if request.get(name)]:
            raise _mutually_exclusive(given[0], fleets)
        types = (
            [request["InstanceFleetType"]] if request.get("InstanceFleetType") else request.get("InstanceGroupTypes")
        )
        one = request.get("InstanceFleetId") or request.get("InstanceGroupId")
        wanted, roles = request.get("InstanceStates") or (), nodes.roles(cluster)
        found = [
            instance
            for instance in nodes.instances(cluster)
            if (where := instance.get("InstanceFleetId") or instance["InstanceGroupId"])
            and (not types or roles[where] in types)
            and (not one or where == one)
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

    def list_supported_instance_types(self, request: Request) -> Answer:
        label = request["ReleaseLabel"]
        if label not in RELEASE_LABELS:
            raise RefusedError(f"The supplied release label is invalid: {label}.", "InvalidRequestException")
        # The retired ones too: EMR names them, only the start of a cluster with them fails.
        return _page("SupportedInstanceTypes", [{"Type": name} for name in sorted(instance_types(label))], request)


def _mutually_exclusive(what: str, fleets: bool) -> RefusedError:
    has, not_for = ("fleets", "groups") if fleets else ("groups", "fleets")
    return RefusedError(
        "Instance fleets and instance groups are mutually exclusive. The EMR cluster specified in the request uses "
        f"instance {has}: {what} is for instance {not_for}.",
        "InvalidRequestException",
    )


def _page(name: str, found: list[Answer], request: Request) -> Answer:
    marker = request.get("Marker") or "0"
    if not marker.isdigit():
        raise RefusedError(f"Marker '{marker}' is not valid.", "InvalidRequestException")
    start = int(marker)
    page: Answer = {name: found[start : start + _PAGE]}
    if start + _PAGE < len(found):
        page["Marker"] = str(start + _PAGE)
    return page
