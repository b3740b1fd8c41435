"""The paid part of check_aws: a cluster of one node, one Spark step, and the end of both, whatever happens."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shardmill.adapters import emr as clusters
from shardmill.adapters.reaping import AWS_ERRORS, clusters_alive
from shardmill.adapters.store import Store
from shardmill.core.emr_request import cluster_request
from shardmill.specs.cluster import ClusterSpec

MOST_HOURS = 0.5
"""From the cluster's creation to its deadline."""
ENDING_MINUTES = 20
NO_IMAGE, NO_LOGS = "ami-00000000", "s3://none"
"""What a spec takes where an account's own image or a lake is not named; a request then leaves them out."""
JOB = """\
from random import random

from pyspark.sql import SparkSession

THROWS = 200_000
spark = SparkSession.builder.appName("check").getOrCreate()
inside = spark.sparkContext.parallelize(range(THROWS), 2).filter(lambda _: random() ** 2 + random() ** 2 < 1).count()
print(f"pi is about {4 * inside / THROWS:.2f}")
spark.stop()
"""
_SPARK_PI = ("--class", "org.apache.spark.examples.SparkPi", "/usr/lib/spark/examples/jars/spark-examples.jar", "10")
Say = Callable[[str], None]


class CheckError(RuntimeError):
    """The account did not do what was asked of it."""


def smoke_request(spec: ClusterSpec) -> dict[str, Any]:
    """Give the arguments of RunJobFlow: those of a run's cluster, but for the master node alone."""
    request = cluster_request(spec)
    request["Instances"]["InstanceGroups"] = request["Instances"]["InstanceGroups"][:1]
    if spec.image_id == NO_IMAGE:
        del request["CustomAmiId"]
    if spec.log_uri == NO_LOGS:
        del request["LogUri"]
    return request


def smoke_step(name: str, script: str = "") -> dict[str, Any]:
    """Give a step of AddJobFlowSteps: Spark's own example, or a script at a URI of the lake."""
    job = (script,) if script else _SPARK_PI
    arguments = ["spark-submit", "--deploy-mode", "client", "--master", "yarn", "--num-executors", "1", *job]
    step = {"Jar": "command-runner.jar", "Args": arguments}
    return {"Name": name, "ActionOnFailure": "CONTINUE", "HadoopJarStep": step}


@dataclass(frozen=True)
class Paid:
    """What the paid part takes."""

    client: Callable[..., Any]
    """Gives a client of boto3 for a service; ``attempts=1`` one that sends nothing twice."""
    request: Mapping[str, Any]
    lake: Store | None
    say: Say
    poll_seconds: float = 15.0

    @property
    def name(self) -> str:
        return str(self.request["Name"])

    @property
    def job_key(self) -> str:
        """Where the job's script lies in the lake while the check runs."""
        return f"checks/{self.name}.py"


def run_paid(paid: Paid) -> str:
    """Make the cluster, run the step, end the cluster; give its id.

    Raises:
        CheckError: the cluster did not come up, or the step did not complete. The cluster is ended then too.
    """
    emr = paid.client("emr")
    if paid.lake is not None:
        paid.lake.put(paid.job_key, JOB.encode())
    try:
        give_up = time.monotonic() + MOST_HOURS * 3600  # for both: so long it was priced, and its deadline says
        cluster_id, _ = clusters.ensure_cluster(emr, paid.client("emr", attempts=1), paid.request)
        paid.say(f"made {cluster_id}; it takes about 5 to 10 minutes to come up")
        _wait(paid, lambda: clusters.cluster_status(emr, cluster_id), ("WAITING", "RUNNING"), cluster_id, give_up)
        step = smoke_step("check", paid.lake.uri_of(paid.job_key) if paid.lake else "")
        step_id, _ = clusters.ensure_step(emr, paid.client("emr", attempts=1), cluster_id, step)
        _wait(paid, lambda: clusters.step_status(emr, cluster_id, step_id), ("COMPLETED",), f"step {step_id}", give_up)
        return cluster_id
    finally:
        _end(paid, emr)
        if paid.lake is not None:
            paid.lake.delete([paid.job_key])


def _wait(paid: Paid, look: Callable[[], tuple[str, str]], wanted: tuple[str, ...], what: str, give_up: float) -> None:
    """Look until a state is one of those wanted; throttled looks are repeated by the client."""
    seen = ""
    while True:
        state, why = look()
        if state != seen:
            paid.say(f"{what}: {state}")
            seen = state
        if state in wanted:
            return
        if state not in ("STARTING", "BOOTSTRAPPING", "PENDING", "RUNNING"):
            raise CheckError(f"{what} is {state}: {why}")
        if time.monotonic() > give_up:
            raise CheckError(f"{what} is still {state}, {MOST_HOURS * 60:.0f} minutes after the cluster was asked for")
        time.sleep(paid.poll_seconds)


def _end(paid: Paid, emr: Any) -> None:
    """End every cluster of this check and wait until none is there, also where an answer was lost on the way."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):  # who is impatient would leave a cluster that costs money
            signal.signal(number, signal.SIG_IGN)
    give_up = time.monotonic() + ENDING_MINUTES * 60
    paid.say("ending the cluster; an interrupt is ignored until it is ended")
    quiet = 0
    while quiet < 2:  # a listing may lag behind: two looks must agree
        try:
            left = clusters.end_clusters(emr, paid.name)
            quiet = 0 if left else quiet + 1
        except AWS_ERRORS as error:
            left, quiet = [f"unknown ({error})"], 0
        if time.monotonic() > give_up:
            raise CheckError(
                f"NOT ENDED: {', '.join(left)} of the name {paid.name}: end it by hand (aws emr terminate-clusters)"
            )
        time.sleep(paid.poll_seconds)
    paid.say("no cluster of this check is alive")


def left_over(paid: Paid, cluster_id: str) -> Iterator[str]:
    """List what is still there and may cost money."""
    found, problems = clusters_alive(paid.client("emr"))
    yield from (f"cluster {one.id} ({one.name}) is {one.state}" for one in found)
    yield from problems
    ec2 = paid.client("ec2")
    mine = [{"Name": "tag:aws:elasticmapreduce:job-flow-id", "Values": [cluster_id]}]
    for page in ec2.get_paginator("describe_instances").paginate(Filters=mine):
        for instance in (one for reservation in page["Reservations"] for one in reservation["Instances"]):
            if instance["State"]["Name"] != "terminated":
                yield f"instance {instance['InstanceId']} is {instance['State']['Name']}"
    for page in ec2.get_paginator("describe_volumes").paginate(Filters=mine):
        yield from (f"volume {volume['VolumeId']} is {volume['State']}" for volume in page["Volumes"])
    if paid.lake is not None:
        logs = sum(1 for _ in paid.lake.list(f"checks/logs/{cluster_id}"))
        yield from [f"{logs} log files below {paid.lake.uri_of('checks/logs/' + cluster_id)}"] if logs else []
