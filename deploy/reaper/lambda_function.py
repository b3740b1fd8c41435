"""End EMR clusters (shardmill=run) and EC2 instances (shardmill=bake) past their deadline. Needs boto3 alone."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import boto3
from botocore.exceptions import BotoCoreError, ClientError

ALIVE = ["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING"]
PAID = ["pending", "running", "stopping", "stopped"]
ERRORS = (BotoCoreError, ClientError, KeyError, TypeError, ValueError)


def handler(event, context):
    """Look at all of the region; fail behind the last one where something could not be dealt with."""
    dry_run = os.environ.get("DRY_RUN", "false") == "true"
    emr, ec2 = boto3.client("emr"), boto3.client("ec2")
    ended, failed = [], []
    looks = [(one, lambda one=one: cluster(emr, one)) for one in live(emr)]
    looks += [(one["InstanceId"], lambda one=one: builder(ec2, one)) for one in builders(ec2)]
    for name, look in looks:
        try:
            why, end = look()
            if why and not dry_run:
                end()
        except ERRORS as error:
            failed.append(f"{name}: {type(error).__name__}: {error}")
        else:
            ended += [f"{name}: {why}"] if why else []
    tell("would end" if dry_run else "ended", ended, failed)
    if failed:
        raise RuntimeError(f"not dealt with: {'; '.join(failed)}")
    return {"ended": ended, "dry_run": dry_run}


def live(emr):
    """List the ids of all first: ending a cluster changes what the next page would be."""
    pages = emr.get_paginator("list_clusters").paginate(ClusterStates=ALIVE)
    return [one["Id"] for page in pages for one in page["Clusters"]]


def cluster(emr, cluster_id):
    """Say why a cluster is to end, if it is, and how."""
    found = emr.describe_cluster(ClusterId=cluster_id)["Cluster"]

    def end():
        if found.get("TerminationProtected"):
            emr.set_termination_protection(JobFlowIds=[cluster_id], TerminationProtected=False)
        emr.terminate_job_flows(JobFlowIds=[cluster_id])

    if found["Status"]["State"] not in ALIVE:
        return "", end
    return reason(found.get("Tags", []), "run", found["Status"]["Timeline"]["CreationDateTime"]), end


def builders(ec2):
    """List the instances on which images are baked."""
    wanted = {"tag:shardmill": ["bake"], "instance-state-name": PAID}
    filters = [{"Name": key, "Values": values} for key, values in wanted.items()]
    pages = ec2.get_paginator("describe_instances").paginate(Filters=filters)
    return [one for page in pages for held in page["Reservations"] for one in held["Instances"]]


def builder(ec2, found):
    """Say why an instance is to end, if it is, and how."""
    why = reason(found.get("Tags", []), "bake", found["LaunchTime"])
    return why, lambda: ec2.terminate_instances(InstanceIds=[found["InstanceId"]])


def reason(pairs, ours, created):
    """Say why something with these tags is late; empty where it is none of ours, or has time left."""
    tags, now = {tag["Key"]: tag.get("Value", "") for tag in pairs}, datetime.now(UTC)
    if tags.get("shardmill") != ours:
        return ""
    try:
        deadline = datetime.fromisoformat(tags.get("deadline", ""))
    except ValueError:
        hours = float(os.environ.get("MAX_HOURS", "24"))
        old = now > created + timedelta(hours=hours)
        return f"no readable deadline, older than {hours:g} h" if old else ""
    deadline = deadline if deadline.tzinfo else deadline.replace(tzinfo=UTC)
    late = now > deadline + timedelta(minutes=float(os.environ.get("GRACE_MINUTES", "10")))
    return f"its deadline was {deadline.isoformat()}" if late else ""


def tell(verb, ended, failed):
    """Write what was done into the log, and to the topic where there is one."""
    lines = [f"{verb} {one}" for one in ended] + [f"FAILED {one}" for one in failed]
    print("\n".join(lines) or "nothing to end")
    topic = os.environ.get("TOPIC_ARN", "")
    if lines and topic:
        boto3.client("sns").publish(TopicArn=topic, Subject="Shardmill's reaper", Message="\n".join(lines))
