"""Write clusters and steps the way EMR's API does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shardmill.localcloud.emr_state import Cluster, Reason, Step

ACCOUNT = "123456789012"
Answer = dict[str, Any]


def filled(answer: Mapping[str, Any]) -> Answer:
    """Drop the fields that have no value: EMR leaves them out."""
    return {key: value for key, value in answer.items() if value is not None and value != ""}


def arn(cluster: Cluster, region: str) -> str:
    """Give the ARN of a cluster."""
    return f"arn:aws:elasticmapreduce:{region}:{ACCOUNT}:cluster/{cluster.id}"


def _reason(reason: Reason) -> Answer:
    return filled({"Code": reason.code, "Message": reason.message})


def _cluster_status(cluster: Cluster) -> Answer:
    times = {"CreationDateTime": cluster.created, "ReadyDateTime": cluster.ready, "EndDateTime": cluster.ended}
    status: Answer = {"State": cluster.state, "StateChangeReason": _reason(cluster.reason), "Timeline": filled(times)}
    if cluster.reason.error_code:
        data = [{key: value} for key, value in cluster.reason.error_data]
        details = {"ErrorCode": cluster.reason.error_code, "ErrorData": data, "ErrorMessage": cluster.reason.message}
        status["ErrorDetails"] = [details]
    return status


def cluster_summary(cluster: Cluster, region: str) -> Answer:
    """Write what ListClusters says of a cluster."""
    return {
        "Id": cluster.id,
        "Name": cluster.request["Name"],
        "Status": _cluster_status(cluster),
        "NormalizedInstanceHours": 0,
        "ClusterArn": arn(cluster, region),
    }


def cluster_details(cluster: Cluster, region: str) -> Answer:
    """Write what DescribeCluster says of a cluster."""
    request = cluster.request
    instances = request["Instances"]
    placement = instances.get("Placement", {})
    attributes = {
        "Ec2KeyName": instances.get("Ec2KeyName"),
        "Ec2SubnetId": instances.get("Ec2SubnetId"),
        "Ec2AvailabilityZone": placement.get("AvailabilityZone", f"{region}a"),
        "IamInstanceProfile": request.get("JobFlowRole"),
    }
    copied = ("ReleaseLabel", "CustomAmiId", "EbsRootVolumeSize", "ServiceRole", "LogUri", "SecurityConfiguration")
    return {
        **cluster_summary(cluster, region),
        **filled({name: request.get(name) for name in copied}),
        "Ec2InstanceAttributes": filled(attributes),
        "InstanceCollectionType": "INSTANCE_FLEET" if instances.get("InstanceFleets") else "INSTANCE_GROUP",
        "RequestedAmiVersion": "",
        "AutoTerminate": not cluster.keeps_alive,
        "TerminationProtected": cluster.protected,
        "UnhealthyNodeReplacement": False,
        "VisibleToAllUsers": request.get("VisibleToAllUsers", True),
        "Applications": [filled({"Name": app.get("Name")}) for app in request.get("Applications", ())],
        "Tags": [{"Key": key, "Value": value} for key, value in cluster.tags.items()],
        "MasterPublicDnsName": "localhost",
        "Configurations": list(request.get("Configurations", ())),
        "StepConcurrencyLevel": cluster.concurrency,
        "PlacementGroups": [],
    }


def step_details(step: Step) -> Answer:
    """Write what DescribeStep and ListSteps say of a step."""
    times = {"CreationDateTime": step.created, "StartDateTime": step.started, "EndDateTime": step.ended}
    status: Answer = {
        "State": step.state,
        "StateChangeReason": filled({"Message": step.message}),
        "Timeline": filled(times),
    }
    if step.failure is not None:
        failure = step.failure
        status["FailureDetails"] = filled(
            {"Reason": failure.reason, "Message": failure.message, "LogFile": failure.log_file}
        )
    config = {"Jar": step.jar, "Properties": dict(step.properties), "Args": list(step.arguments)}
    return {
        "Id": step.id,
        "Name": step.name,
        "Config": config | filled({"MainClass": step.main_class}),
        "ActionOnFailure": step.on_failure,
        "Status": status,
    }
