from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from shardmill.adapters.emr import cancel_step, cluster_status, end_clusters, ensure_cluster, ensure_step, step_status
from shardmill.core.emr_request import cluster_request
from shardmill.localcloud import emr_state as states
from shardmill.localcloud.emr_state import Failure, Outcome
from shardmill.specs.cluster import ClusterSpec

Serve = Callable[[], Any]
SPEC = ClusterSpec(
    name="night",
    run="r1",
    image_id="ami-0123456789abcdef0",
    log_uri="s3://shardmill-logs/emr",
    deadline="2026-11-21T00:00:00+00:00",
)
STEP = {
    "Name": "train",
    "ActionOnFailure": "CONTINUE",
    "HadoopJarStep": {
        "Jar": "command-runner.jar",
        "Args": ["spark-submit", "s3://b/job.py"],
        "Properties": [{"Key": "a", "Value": "b"}],
    },
}


def started(served: Any) -> str:
    cluster_id: str = served.emr.run_job_flow(**cluster_request(SPEC))["JobFlowId"]
    served.table.change(cluster_id, states.bootstrapping)
    served.table.change(cluster_id, lambda known: states.ready(known, served.now))
    return cluster_id


def add(served: Any, cluster_id: str) -> str:
    found: str = served.emr.add_job_flow_steps(JobFlowId=cluster_id, Steps=[STEP])["StepIds"][0]
    return found


def refusal(call: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as error:
        call(**arguments)
    found = error.value.response["Error"]
    return found["Code"], found["Message"]


def test_a_cluster_is_described_as_it_was_asked_for(serve: Serve) -> None:
    served = serve()
    request = cluster_request(SPEC)
    cluster_id = served.emr.run_job_flow(**request)["JobFlowId"]
    found = served.emr.describe_cluster(ClusterId=cluster_id)["Cluster"]
    assert found["Status"]["State"] == "STARTING"
    for name in ("Name", "ReleaseLabel", "CustomAmiId", "LogUri", "ServiceRole", "EbsRootVolumeSize", "Tags"):
        assert found[name] == request[name]
    assert found["Configurations"] == request["Configurations"]
    assert (found["AutoTerminate"], found["TerminationProtected"]) == (False, False)
    groups = served.emr.list_instance_groups(ClusterId=cluster_id)["InstanceGroups"]
    assert [group["InstanceGroupType"] for group in groups] == ["MASTER", "CORE"]
    core = served.emr.list_instances(ClusterId=cluster_id, InstanceGroupTypes=["CORE"])["Instances"]
    assert {node["InstanceType"] for node in core} == {SPEC.core_type}
    assert len(core) == SPEC.core_count
    assert served.emr.get_auto_termination_policy(ClusterId=cluster_id)["AutoTerminationPolicy"] == {"IdleTimeout": 900}


def test_clusters_are_listed_by_state_the_newest_first_and_in_pages(serve: Serve) -> None:
    served = serve()
    made = []
    for _ in range(60):
        served.now += 1
        made.append(served.emr.run_job_flow(**cluster_request(SPEC))["JobFlowId"])
    pages = served.emr.get_paginator("list_clusters").paginate(ClusterStates=["STARTING"])
    assert [cluster["Id"] for page in pages for cluster in page["Clusters"]] == made[::-1]
    assert served.emr.list_clusters(ClusterStates=["TERMINATED"])["Clusters"] == []


def test_a_steps_failure_is_described(serve: Serve) -> None:
    served = serve()
    cluster_id = started(served)
    step_id = add(served, cluster_id)
    served.table.change(cluster_id, lambda known: states.step_started(known, step_id, served.now))
    failed = Outcome("FAILED", Failure("Unknown Error.", "ValueError: bad", "s3://logs/stdout.gz"))
    served.table.change(cluster_id, lambda known: states.step_ended(known, step_id, failed, served.now))
    found = served.emr.describe_step(ClusterId=cluster_id, StepId=step_id)["Step"]
    assert found["Config"]["Args"] == STEP["HadoopJarStep"]["Args"]  # type: ignore[index]
    assert found["Config"]["Properties"] == {"a": "b"}
    assert found["Status"]["FailureDetails"] == {
        "Reason": "Unknown Error.",
        "Message": "ValueError: bad",
        "LogFile": "s3://logs/stdout.gz",
    }
    assert set(found["Status"]["Timeline"]) == {"CreationDateTime", "StartDateTime", "EndDateTime"}
    listed = served.emr.list_steps(ClusterId=cluster_id, StepStates=["FAILED"])["Steps"]
    assert [step["Id"] for step in listed] == [step_id]
    assert step_status(served.emr, cluster_id, step_id)[0] == "FAILED"


def test_steps_are_cancelled(serve: Serve) -> None:
    served = serve()
    cluster_id = started(served)
    first, second = add(served, cluster_id), add(served, cluster_id)
    served.table.change(cluster_id, lambda known: states.step_started(known, first, served.now))
    answer = served.emr.cancel_steps(ClusterId=cluster_id, StepIds=[first, second, "s-NONE"])["CancelStepsInfoList"]
    assert [one["Status"] for one in answer] == ["SUBMITTED", "SUBMITTED", "FAILED"]
    cancel_step(served.emr, cluster_id, first)
    states_found = {
        step["Id"]: step["Status"]["State"] for step in served.emr.list_steps(ClusterId=cluster_id)["Steps"]
    }
    assert states_found == {first: "CANCEL_PENDING", second: "CANCELLED"}


def test_termination_protection_holds_until_it_is_lifted(serve: Serve) -> None:
    served = serve()
    cluster_id = started(served)
    served.emr.set_termination_protection(JobFlowIds=[cluster_id], TerminationProtected=True)
    code, message = refusal(served.emr.terminate_job_flows, JobFlowIds=[cluster_id])
    assert code == "ValidationException"
    assert "termination protected" in message
    assert end_clusters(served.emr, SPEC.name) == [cluster_id]
    assert cluster_status(served.emr, cluster_id) == ("TERMINATING", "USER_REQUEST: Terminated by user request")


def test_tags_and_policies_are_changed(serve: Serve) -> None:
    served = serve()
    cluster_id = started(served)
    served.emr.add_tags(ResourceId=cluster_id, Tags=[{"Key": "run", "Value": "r2"}, {"Key": "new", "Value": "1"}])
    served.emr.remove_tags(ResourceId=cluster_id, TagKeys=["deadline"])
    tags = {tag["Key"]: tag["Value"] for tag in served.emr.describe_cluster(ClusterId=cluster_id)["Cluster"]["Tags"]}
    assert tags == {"shardmill": "run", "run": "r2", "work": "train", "new": "1"}
    served.emr.put_auto_termination_policy(ClusterId=cluster_id, AutoTerminationPolicy={"IdleTimeout": 60})
    assert served.table.find(cluster_id).idle_timeout == 60
    served.emr.remove_auto_termination_policy(ClusterId=cluster_id)
    assert "AutoTerminationPolicy" not in served.emr.get_auto_termination_policy(ClusterId=cluster_id)
    assert served.emr.modify_cluster(ClusterId=cluster_id, StepConcurrencyLevel=3)["StepConcurrencyLevel"] == 3


def test_unknown_ids_are_refused(serve: Serve) -> None:
    served = serve()
    cluster_id = started(served)
    assert refusal(served.emr.describe_cluster, ClusterId="j-NONE")[0] == "InvalidRequestException"
    assert refusal(served.emr.describe_step, ClusterId=cluster_id, StepId="s-NONE")[0] == "InvalidRequestException"
    assert refusal(served.emr.add_job_flow_steps, JobFlowId="j-NONE", Steps=[STEP]) == (
        "ValidationException",
        "Specified job flow ID does not exist.",
    )


def test_what_aws_refuses_is_refused_over_the_wire(serve: Serve) -> None:
    served = serve()
    request = cluster_request(SPEC)
    code, message = refusal(served.emr.run_job_flow, **{**request, "CustomAmiId": "ami-0badbadbadbadbad0"})
    assert (code, "ami-0badbadbadbadbad0" in message) == ("ValidationException", True)
    code, message = refusal(served.emr.run_job_flow, **{**request, "ReleaseLabel": "emr-7.99.0"})
    assert (code, "emr-7.99.0" in message) == ("ValidationException", True)
    assert served.emr.list_clusters()["Clusters"] == []
    cluster_id = started(served)
    served.emr.terminate_job_flows(JobFlowIds=[cluster_id])
    code, message = refusal(served.emr.add_job_flow_steps, JobFlowId=cluster_id, Steps=[STEP])
    assert "may not be modified" in message
    types = served.emr.list_supported_instance_types(ReleaseLabel="emr-7.13.0")["SupportedInstanceTypes"]
    assert types


def test_requests_that_do_not_fit_the_service_model_are_refused(serve: Serve) -> None:
    served = serve()
    for target, body in (("RunJobFlow", {"Name": 5}), ("RunJobFlow", {}), ("NoSuchThing", {})):
        connection = http.client.HTTPConnection("127.0.0.1", served.server.port)
        scope = "AWS4-HMAC-SHA256 Credential=testing/20261121/us-east-1/elasticmapreduce/aws4_request, Signature=x"
        headers = {"X-Amz-Target": f"ElasticMapReduce.{target}", "Authorization": scope}
        connection.request("POST", "/", json.dumps(body), headers)
        answer = connection.getresponse()
        assert answer.status == 400
        assert json.loads(answer.read())["message"]


def test_our_own_adapter_joins_what_it_made(serve: Serve) -> None:
    served = serve()
    request = cluster_request(SPEC)
    cluster_id, created = ensure_cluster(served.emr, served.emr, request)
    assert created
    assert ensure_cluster(served.emr, served.emr, request) == (cluster_id, False)
    step_id, added = ensure_step(served.emr, served.emr, cluster_id, STEP)
    assert added
    assert ensure_step(served.emr, served.emr, cluster_id, STEP) == (step_id, False)
