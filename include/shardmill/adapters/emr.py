"""EMR: join what an earlier try made, or make it; find it by name, never by memory alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from shardmill.core.emr_request import NodeSize

ALIVE = ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING")
ENDED = ("TERMINATED", "TERMINATED_WITH_ERRORS")
OPEN_STEP = ("PENDING", "CANCEL_PENDING", "RUNNING")
_JOINABLE_STEP = ("PENDING", "RUNNING")
_REFUSED = ("ValidationException", "InvalidRequestException", "AccessDeniedException")


class RefusedError(ValueError):
    """AWS refused what was asked; trying again does not help."""


class ClusterLostError(RuntimeError):
    """The cluster ended before its work was done."""


class StepFailedError(RuntimeError):
    """A step did not complete; the message holds its last lines."""


def live_clusters(emr: Any, name: str, states: Sequence[str] = ALIVE) -> list[str]:
    """List the ids of the clusters of this name that are alive, the oldest first."""
    pages = emr.get_paginator("list_clusters").paginate(ClusterStates=list(states))
    found = [cluster for page in pages for cluster in page["Clusters"] if cluster["Name"] == name]
    found.sort(key=lambda cluster: (cluster["Status"]["Timeline"]["CreationDateTime"], cluster["Id"]))
    return [cluster["Id"] for cluster in found]


def ensure_cluster(emr: Any, emr_once: Any, request: Mapping[str, Any]) -> tuple[str, bool]:
    """Join the live cluster of the request's name, or create it.

    RunJobFlow takes no idempotency token, so it is sent by a client that never sends twice, and what came of it
    is told by the listing. Of two that were made at once the oldest stays, the others are ended.

    Args:
        emr: a client of boto3.
        emr_once: a client that makes one attempt only.

    Returns:
        The cluster's id, and whether this call asked for it.

    Raises:
        RefusedError: the request is wrong.
    """
    found = live_clusters(emr, request["Name"])
    created = not found
    lost: Exception | None = None
    told: list[str] = []
    if created:
        try:
            told = [emr_once.run_job_flow(**request)["JobFlowId"]]
        except ClientError as error:
            if error.response["Error"]["Code"] in _REFUSED:
                raise RefusedError(f"EMR refused the cluster: {error.response['Error']['Message']}") from error
            lost = error
        except BotoCoreError as error:  # no answer: it may have taken effect
            lost = error
        found = live_clusters(emr, request["Name"]) or told  # a listing may lag behind
    if not found:
        raise ClusterLostError(f"no cluster {request['Name']} came up: {lost or 'it ended at once'}") from lost
    if found[1:]:
        emr.terminate_job_flows(JobFlowIds=found[1:])
    return found[0], created


def cluster_status(emr: Any, cluster_id: str) -> tuple[str, str]:
    """Give a cluster's state and the reason for it, in words."""
    status = emr.describe_cluster(ClusterId=cluster_id)["Cluster"]["Status"]
    reason = status.get("StateChangeReason") or {}
    return status["State"], ": ".join(str(reason[key]) for key in ("Code", "Message") if reason.get(key))


def cluster_deadline(emr: Any, cluster_id: str) -> datetime:
    """Read from a cluster's tags when it must be gone."""
    tags = {tag["Key"]: tag["Value"] for tag in emr.describe_cluster(ClusterId=cluster_id)["Cluster"]["Tags"]}
    return datetime.fromisoformat(tags["deadline"])


def ensure_step(emr: Any, emr_once: Any, cluster_id: str, step: Mapping[str, Any]) -> tuple[str, bool]:
    """Join the step of this name that waits or runs, or add it.

    A completed one does not count: whoever asks found its result missing.

    Returns:
        The step's id, and whether this call added it.
    """
    found = _open_steps(emr, cluster_id, step["Name"])
    if found:
        return found[0], False
    lost: Exception | None = None
    try:
        return str(emr_once.add_job_flow_steps(JobFlowId=cluster_id, Steps=[dict(step)])["StepIds"][0]), True
    except ClientError as error:
        if error.response["Error"]["Code"] in _REFUSED:
            raise RefusedError(f"EMR refused the step: {error.response['Error']['Message']}") from error
        lost = error
    except BotoCoreError as error:  # no answer: it may have taken effect
        lost = error
    found = _open_steps(emr, cluster_id, step["Name"])
    if not found:
        raise StepFailedError(f"the step {step['Name']} was not added to {cluster_id}: {lost}") from lost
    return found[0], True


def _open_steps(emr: Any, cluster_id: str, name: str) -> list[str]:
    pages = emr.get_paginator("list_steps").paginate(ClusterId=cluster_id)
    steps = [step for page in pages for step in page["Steps"] if step["Name"] == name]
    steps.sort(key=lambda step: step["Status"]["Timeline"]["CreationDateTime"])
    return [step["Id"] for step in steps if step["Status"]["State"] in _JOINABLE_STEP]


def step_status(emr: Any, cluster_id: str, step_id: str) -> tuple[str, str]:
    """Give a step's state and, where it failed, why: EMR's reason and the last lines of its output."""
    status = emr.describe_step(ClusterId=cluster_id, StepId=step_id)["Step"]["Status"]
    details = status.get("FailureDetails") or {}
    return status["State"], "\n".join(str(details[key]) for key in ("Reason", "Message", "LogFile") if details.get(key))


def cancel_step(emr: Any, cluster_id: str, step_id: str) -> None:
    """Cancel a step, running or not."""
    emr.cancel_steps(ClusterId=cluster_id, StepIds=[step_id], StepCancellationOption="TERMINATE_PROCESS")


def end_clusters(emr: Any, name: str) -> list[str]:
    """Ask for the end of every live cluster of this name; give their ids and those of such as are ending already."""
    ending = live_clusters(emr, name, ("TERMINATING",))
    found = live_clusters(emr, name)
    if found:
        emr.set_termination_protection(JobFlowIds=found, TerminationProtected=False)
        emr.terminate_job_flows(JobFlowIds=found)
    return found + ending


def newest_image(ec2: Any) -> str:
    """Give the newest available own image tagged ``shardmill=cluster``."""
    images = ec2.describe_images(
        Owners=["self"],
        Filters=[{"Name": "tag:shardmill", "Values": ["cluster"]}, {"Name": "state", "Values": ["available"]}],
    )["Images"]
    if not images:
        raise RefusedError(
            "image_id: none given, and the account has no available image tagged shardmill=cluster: "
            "bake one or name one"
        )
    return str(max(images, key=lambda image: (image.get("CreationDate", ""), image["ImageId"]))["ImageId"])


def check_image(ec2: Any, image_id: str) -> None:
    """Refuse an image that is not there or not available, before anything is paid for."""
    try:
        images = ec2.describe_images(ImageIds=[image_id])["Images"]
    except ClientError as error:
        if not error.response["Error"]["Code"].startswith("InvalidAMIID"):
            raise
        raise RefusedError(f"image_id: {error.response['Error']['Message']}") from error
    if not images:
        raise RefusedError(f"image_id: {image_id} is not there, or not visible to this account")
    if images[0].get("State") != "available":
        raise RefusedError(f"image_id: {image_id} is {images[0].get('State')}, expected available")


def node_size(ec2: Any, instance_type: str) -> NodeSize:
    """Give the cores and the memory of an instance type. Raises RefusedError where EC2 has none of this name."""
    try:
        (found,) = ec2.describe_instance_types(InstanceTypes=[instance_type])["InstanceTypes"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "InvalidInstanceType":
            raise
        raise RefusedError(f"split_type: {error.response['Error']['Message']}") from error
    return NodeSize(found["VCpuInfo"]["DefaultVCpus"], found["MemoryInfo"]["SizeInMiB"])
