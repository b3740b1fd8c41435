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
from shardmill.localcloud.cluster_failures import out_of_capacity
from shardmill.localcloud.emr_nodes import instances, primary_instance, scarce_type
from shardmill.localcloud.emr_state import Cluster, Failure, Outcome
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
    assert tags.items() >= {"shardmill": "run", "run": "r2", "work": "train", "new": "1"}.items()
    assert "deadline" not in tags
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
    cluster_id, created = ensure_cluster(served.emr, served.emr, request)[:2]
    assert created
    assert ensure_cluster(served.emr, served.emr, request)[:2] == (cluster_id, False)
    step_id, added = ensure_step(served.emr, served.emr, cluster_id, STEP)
    assert added
    assert ensure_step(served.emr, served.emr, cluster_id, STEP) == (step_id, False)


FLEETS: dict[str, Any] = {
    "InstanceFleets": [
        {
            "InstanceFleetType": "MASTER",
            "TargetOnDemandCapacity": 1,
            "InstanceTypeConfigs": [{"InstanceType": "m5.xlarge"}],
        },
        {
            "Name": "gpus",
            "InstanceFleetType": "CORE",
            "TargetOnDemandCapacity": 4,
            "InstanceTypeConfigs": [
                {"InstanceType": "g4dn.2xlarge", "WeightedCapacity": 2},
                {"InstanceType": "g5.xlarge"},
            ],
        },
        {
            "InstanceFleetType": "TASK",
            "TargetSpotCapacity": 3,
            "InstanceTypeConfigs": [{"InstanceType": "g4dn.xlarge", "BidPriceAsPercentageOfOnDemandPrice": 100.0}],
            "LaunchSpecifications": {
                "SpotSpecification": {
                    "TimeoutDurationMinutes": 20,
                    "TimeoutAction": "SWITCH_TO_ON_DEMAND",
                    "AllocationStrategy": "price-capacity-optimized",
                }
            },
        },
    ],
    "KeepJobFlowAliveWhenNoSteps": True,
}


def test_a_cluster_of_fleets_is_described_by_its_fleets(serve: Serve) -> None:
    served = serve()
    cluster_id = served.emr.run_job_flow(**{**cluster_request(SPEC), "Instances": FLEETS})["JobFlowId"]
    described = served.emr.describe_cluster(ClusterId=cluster_id)["Cluster"]
    assert described["InstanceCollectionType"] == "INSTANCE_FLEET"
    fleets = served.emr.list_instance_fleets(ClusterId=cluster_id)["InstanceFleets"]
    assert [fleet["InstanceFleetType"] for fleet in fleets] == ["MASTER", "CORE", "TASK"]
    assert [fleet["ProvisionedOnDemandCapacity"] for fleet in fleets] == [0, 0, 0]
    assert fleets[1]["InstanceTypeSpecifications"][0]["WeightedCapacity"] == 2
    assert fleets[2]["LaunchSpecifications"]["SpotSpecification"]["TimeoutDurationMinutes"] == 20
    served.table.change(cluster_id, states.bootstrapping)
    served.table.change(cluster_id, lambda known: states.ready(known, served.now))
    fleets = served.emr.list_instance_fleets(ClusterId=cluster_id)["InstanceFleets"]
    assert [fleet["ProvisionedOnDemandCapacity"] for fleet in fleets] == [1, 4, 0]
    assert fleets[2]["ProvisionedSpotCapacity"] == 3


def test_the_instances_of_a_fleet_are_as_many_as_its_targets_need(serve: Serve) -> None:
    served = serve()
    cluster_id = served.emr.run_job_flow(**{**cluster_request(SPEC), "Instances": FLEETS})["JobFlowId"]
    core = served.emr.list_instances(ClusterId=cluster_id, InstanceFleetType="CORE")["Instances"]
    assert [(one["InstanceType"], one["Market"]) for one in core] == [("g4dn.2xlarge", "ON_DEMAND")] * 2
    task = served.emr.list_instances(ClusterId=cluster_id, InstanceFleetType="TASK")["Instances"]
    assert [one["Market"] for one in task] == ["SPOT"] * 3
    fleet_id = task[0]["InstanceFleetId"]
    assert served.emr.list_instances(ClusterId=cluster_id, InstanceFleetId=fleet_id)["Instances"] == task
    assert len(served.emr.list_instances(ClusterId=cluster_id)["Instances"]) == 6


def test_groups_and_fleets_are_not_asked_for_by_the_others_operations(serve: Serve) -> None:
    served = serve()
    of_fleets = served.emr.run_job_flow(**{**cluster_request(SPEC), "Instances": FLEETS})["JobFlowId"]
    of_groups = served.emr.run_job_flow(**cluster_request(SPEC))["JobFlowId"]
    for call, arguments in (
        (served.emr.list_instance_groups, {"ClusterId": of_fleets}),
        (served.emr.list_instance_fleets, {"ClusterId": of_groups}),
        (served.emr.list_instances, {"ClusterId": of_fleets, "InstanceGroupTypes": ["CORE"]}),
        (served.emr.list_instances, {"ClusterId": of_groups, "InstanceFleetType": "CORE"}),
    ):
        code, message = refusal(call, **arguments)
        assert (code, "mutually exclusive" in message) == ("InvalidRequestException", True)


def test_a_failed_clusters_error_details_are_described(serve: Serve) -> None:
    served = serve()
    cluster_id = started(served)
    reason = out_of_capacity("g4dn.xlarge", "us-east-1a")
    served.table.change(cluster_id, lambda known: states.terminating(known, reason, served.now))
    served.table.change(cluster_id, lambda known: states.terminated(known, served.now))
    status = served.emr.describe_cluster(ClusterId=cluster_id)["Cluster"]["Status"]
    assert (status["State"], status["StateChangeReason"]["Code"]) == ("TERMINATED_WITH_ERRORS", "INTERNAL_ERROR")
    assert {"instance-type": "g4dn.xlarge"} in status["ErrorDetails"][0]["ErrorData"]


def test_a_cluster_names_a_security_configuration_that_is_there(serve: Serve) -> None:
    served = serve()
    request = {**cluster_request(SPEC), "SecurityConfiguration": "shardmill"}
    code, message = refusal(served.emr.run_job_flow, **request)
    assert (code, "'shardmill' does not exist" in message) == ("InvalidRequestException", True)
    text = '{"InstanceMetadataServiceConfiguration": {"MinimumInstanceMetadataServiceVersion": 2}}'
    served.emr.create_security_configuration(Name="shardmill", SecurityConfiguration=text)
    assert served.emr.describe_security_configuration(Name="shardmill")["SecurityConfiguration"] == text
    assert [one["Name"] for one in served.emr.list_security_configurations()["SecurityConfigurations"]] == ["shardmill"]
    cluster_id = served.emr.run_job_flow(**request)["JobFlowId"]
    assert served.emr.describe_cluster(ClusterId=cluster_id)["Cluster"]["SecurityConfiguration"] == "shardmill"
    assert (
        "already exists"
        in refusal(served.emr.create_security_configuration, Name="shardmill", SecurityConfiguration=text)[1]
    )
    assert "no JSON" in refusal(served.emr.create_security_configuration, Name="other", SecurityConfiguration="{")[1]
    served.emr.delete_security_configuration(Name="shardmill")
    assert refusal(served.emr.describe_security_configuration, Name="shardmill")[0] == "InvalidRequestException"


def test_the_primary_node_is_found_whatever_the_order_of_groups() -> None:
    groups = [
        {"InstanceRole": role, "InstanceType": name, "InstanceCount": count}
        for role, name, count in (("CORE", "g4dn.xlarge", 2), ("MASTER", "m5.xlarge", 1))
    ]
    cluster = Cluster("j-1", {"Name": "c", "Instances": {"InstanceGroups": groups}}, 0.0)
    assert primary_instance(cluster) == instances(cluster)[2]["Ec2InstanceId"]
    assert scarce_type(cluster) == "g4dn.xlarge"
