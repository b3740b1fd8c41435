"""Write what EMR is asked for: the cluster and its steps, as plain values for RunJobFlow and AddJobFlowSteps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shardmill.specs.cluster import ClusterSpec

TAG = "shardmill"


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


def spark_step(name: str, *, code: tuple[str, str], arguments: Sequence[str], workers: int) -> dict[str, Any]:
    """Give one step of AddJobFlowSteps: spark-submit of a job of this package.

    Args:
        name: deterministic, so that a retry finds the step of its first try.
        code: URIs of the package's zip and of the entry script.
        arguments: what follows the script, e.g. ``("train", "s3://…/spec.json")``.
        workers: executors to ask for, one task each.
    """
    package, script = code
    submit = ["spark-submit", "--deploy-mode", "client", "--master", "yarn", "--num-executors", str(workers)]
    return {
        "Name": name,
        "ActionOnFailure": "CONTINUE",
        "HadoopJarStep": {
            "Jar": "command-runner.jar",
            "Args": [*submit, "--name", name, "--py-files", package, script, *arguments],
        },
    }
