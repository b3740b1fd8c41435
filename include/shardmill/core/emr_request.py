"""Write what EMR is asked for: the cluster and its steps, as plain values for RunJobFlow and AddJobFlowSteps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shardmill.core.planning import BadRequestError
from shardmill.specs.cluster import ClusterSpec

TAG = "shardmill"
HEAP_MIB = 1024
YARN_SHARE = 0.7
"""Of a node's memory; EMR gives YARN at least 73 % of it."""
MASTER_MIB = 1536
"""For YARN's application master, which takes a container on one of the nodes."""


def cluster_request(cluster: ClusterSpec) -> dict[str, Any]:
    """Give the arguments of RunJobFlow."""
    instances: dict[str, Any] = {
        "InstanceGroups": [
            _group("primary", "MASTER", cluster.master_type, 1),
            _group("core", "CORE", cluster.core_type, cluster.core_count),
        ],
        "KeepJobFlowAliveWhenNoSteps": True,
        "TerminationProtected": False,
    }
    if cluster.subnet_id:
        instances["Ec2SubnetId"] = cluster.subnet_id
    return {
        "Name": cluster.name,
        "ReleaseLabel": cluster.release_label,
        "LogUri": cluster.log_uri,
        "Applications": [{"Name": "Spark"}],
        "Instances": instances,
        "CustomAmiId": cluster.image_id,
        "EbsRootVolumeSize": cluster.root_volume_gib,
        "ServiceRole": cluster.service_role,
        "JobFlowRole": cluster.instance_profile,
        "VisibleToAllUsers": True,
        "StepConcurrencyLevel": 1,
        "AutoTerminationPolicy": {"IdleTimeout": cluster.idle_minutes * 60},
        "Configurations": _configurations(cluster),
        "Tags": [
            {"Key": TAG, "Value": "run"},
            {"Key": "run", "Value": cluster.run},
            {"Key": "work", "Value": cluster.work},
            {"Key": "deadline", "Value": cluster.deadline},
        ],
    }


def _group(name: str, role: str, instance_type: str, count: int) -> dict[str, Any]:
    return {
        "Name": name,
        "InstanceRole": role,
        "InstanceType": instance_type,
        "InstanceCount": count,
        "Market": "ON_DEMAND",
    }


def _configurations(cluster: ClusterSpec) -> list[dict[str, Any]]:
    python = cluster.python
    return [
        {
            "Classification": "spark-defaults",
            "Properties": {
                # EMR turns it on by default; a trainer needs all of its workers for as long as it runs.
                "spark.dynamicAllocation.enabled": "false",
                "spark.pyspark.python": python,
                "spark.pyspark.driver.python": python,
                "spark.executorEnv.PYSPARK_PYTHON": python,
                "spark.executorEnv.AWS_REGION": cluster.region,
            },
        },
        {
            "Classification": "spark-env",
            "Configurations": [
                {
                    "Classification": "export",
                    "Properties": {
                        "PYSPARK_PYTHON": python,
                        "PYSPARK_DRIVER_PYTHON": python,
                        "AWS_REGION": cluster.region,
                    },
                }
            ],
        },
    ]


@dataclass(frozen=True)
class NodeSize:
    """What a node has."""

    cores: int
    memory_mib: int


def whole_nodes(node: NodeSize, count: int) -> dict[str, str]:
    """Give the settings by which each of some nodes carries one executor, and it one task at a time.

    A task's work is done by processes beside the JVM, so memory goes there. The container is larger than half of what
    YARN has on a node, which makes it the only one there, and leaves room for the application master.

    Raises:
        BadRequestError: the nodes are too small.
    """
    container = int(node.memory_mib * YARN_SHARE) - MASTER_MIB
    if container < 2 * HEAP_MIB:
        raise BadRequestError(f"split_type: expected nodes of at least 8 GiB, found {node.memory_mib} MiB")
    return {
        "spark.executor.cores": str(node.cores),
        "spark.task.cpus": str(node.cores),
        "spark.executor.memory": f"{HEAP_MIB}m",
        "spark.executor.memoryOverhead": f"{container - HEAP_MIB}m",
        # Nodes are lost now and then in days of work; Spark would give up at twice as many as there are.
        "spark.yarn.max.executor.failures": str(max(24, 6 * count)),
        "spark.yarn.executor.failuresValidityInterval": "1h",
    }


def spark_step(
    name: str,
    *,
    code: tuple[str, str],
    arguments: Sequence[str],
    workers: int,
    settings: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Give one step of AddJobFlowSteps: spark-submit of a job of this package.

    Args:
        name: deterministic, so that a retry finds the step of its first try.
        code: URIs of the package's zip and of the entry script.
        arguments: what follows the script, e.g. ``("train", "s3://…/spec.json")``.
        workers: executors to ask for, one task each.
        settings: of Spark, for this step.
    """
    package, script = code
    conf = [part for key, value in sorted((settings or {}).items()) for part in ("--conf", f"{key}={value}")]
    submit = ["spark-submit", "--deploy-mode", "client", "--master", "yarn", "--num-executors", str(workers)]
    return {
        "Name": name,
        "ActionOnFailure": "CONTINUE",
        "HadoopJarStep": {
            "Jar": "command-runner.jar",
            "Args": [*submit, *conf, "--name", name, "--py-files", package, script, *arguments],
        },
    }
