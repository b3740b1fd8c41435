"""Write what EMR is asked for: the cluster, as a plain value for RunJobFlow."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from shardmill.core.emr_configurations import configurations, security_configuration
from shardmill.core.emr_instances import instances
from shardmill.core.emr_steps import dist_cp_step, hdfs_uri, seconds_left, spark_step
from shardmill.core.spark_settings import NodeSize, whole_nodes
from shardmill.specs.cluster import BootstrapAction, ClusterSpec

__all__ = [
    "NodeSize",
    "cluster_request",
    "dist_cp_step",
    "hdfs_uri",
    "node_scripts",
    "seconds_left",
    "security_configuration",
    "spark_step",
    "whole_nodes",
]

TAG = "shardmill"
NODE_GRACE = timedelta(minutes=1)
"""Nodes shut themselves down so long after the deadline: whoever is there to end the cluster in order comes first."""


def cluster_request(cluster: ClusterSpec) -> dict[str, Any]:
    """Give the arguments of RunJobFlow."""
    return {
        "Name": cluster.name,
        "ReleaseLabel": cluster.release_label,
        "LogUri": cluster.log_uri,
        **_optional("LogEncryptionKmsKeyId", cluster.log_kms_key),
        "Applications": [{"Name": name} for name in cluster.application_names],
        "Instances": instances(cluster),
        # Once for all nodes: EMR refuses an image both here and on a group or a type of a fleet.
        "CustomAmiId": cluster.image_id,
        "EbsRootVolumeSize": cluster.root_volume_gib,
        "ServiceRole": cluster.service_role,
        "JobFlowRole": cluster.instance_profile,
        **_optional("SecurityConfiguration", cluster.security_configuration),
        "VisibleToAllUsers": True,
        "StepConcurrencyLevel": 1,
        "AutoTerminationPolicy": {"IdleTimeout": cluster.idle_minutes * 60},
        "Configurations": configurations(cluster),
        **_optional("BootstrapActions", [_bootstrap(action) for action in cluster.bootstrap]),
        "Tags": _tags(cluster),
    }


def _optional(name: str, value: Any) -> dict[str, Any]:
    return {name: value} if value else {}


def _bootstrap(action: BootstrapAction) -> dict[str, Any]:
    script = {"Path": action.path, "Args": list(action.arguments)}
    return {"Name": action.name, "ScriptBootstrapAction": script}


def _tags(cluster: ClusterSpec) -> list[dict[str, str]]:
    tags = {TAG: "run", "run": cluster.run, "work": cluster.work}
    dag, dot, _ = cluster.run.partition(".")  # a run of Airflow is named <dag>.<run id>, one without it as it likes
    tags |= {"dag": dag} if dot else {}
    tags |= {"folder": cluster.folder} if cluster.folder else {}
    tags |= {"owner": cluster.owner, "deadline": cluster.deadline}
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def node_scripts(deadline: str, *, gpus: bool) -> dict[str, tuple[str, ...]]:
    """Give what each node runs before Spark starts: names of scripts, with their arguments, in order.

    Args:
        deadline: when the cluster must be gone, ISO 8601 with its offset.
        gpus: whether YARN hands out GPUs.
    """
    end = (datetime.fromisoformat(deadline) + NODE_GRACE).isoformat(timespec="seconds")
    # The timer first: whatever the others do, the node ends.
    return {"deadline.sh": (end,)} | ({"gpu_cgroups.sh": ()} if gpus else {})
