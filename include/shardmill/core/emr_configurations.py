"""What EMR writes into the configuration files of a cluster, and what a security configuration of EMR says."""

from __future__ import annotations

from typing import Any

from shardmill.specs.cluster import ClusterSpec

GPU_CGROUPS = "/spark-rapids-cgroup"
"""Where the bootstrap action ``gpu_cgroups.sh`` mounts the device controller of cgroup v1."""
DISCOVERY_SCRIPT = "/usr/lib/spark/scripts/gpu/getGpusResources.sh"
"""EMR's own; it tells Spark which GPUs YARN gave to a container."""
_YARN = "yarn.nodemanager."


def configurations(cluster: ClusterSpec) -> list[dict[str, Any]]:
    """Give ``Configurations`` of RunJobFlow."""
    found = [_classified("spark-defaults", _spark_defaults(cluster)), _spark_environment(cluster)]
    if yarn := _yarn_site(cluster):
        found.append(_classified("yarn-site", yarn))
    if cluster.schedules_gpus:
        found += _gpu_classes()
    return found


def _classified(name: str, properties: dict[str, str], *nested: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"Classification": name, "Properties": properties}
    return found | {"Configurations": list(nested)} if nested else found


def _spark_defaults(cluster: ClusterSpec) -> dict[str, str]:
    python = cluster.python
    gpus = {
        # One GPU an executor, one task a GPU: TensorFlow takes a whole one.
        "spark.executor.resource.gpu.amount": "1",
        "spark.executor.resource.gpu.discoveryScript": DISCOVERY_SCRIPT,
        "spark.task.resource.gpu.amount": "1",
    }
    return {
        # EMR turns it on by default; a trainer needs all of its workers for as long as it runs.
        "spark.dynamicAllocation.enabled": "false",
        "spark.pyspark.python": python,
        "spark.pyspark.driver.python": python,
        "spark.executorEnv.PYSPARK_PYTHON": python,
        "spark.executorEnv.AWS_REGION": cluster.region,
        **_event_logs(cluster.event_logs),
        **(gpus if cluster.schedules_gpus else {}),
    }


def _event_logs(folder: str) -> dict[str, str]:
    if not folder:
        return {}
    return {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": folder,
        "spark.history.fs.logDirectory": folder,  # the cluster's own history server looks where they are written
    }


def _spark_environment(cluster: ClusterSpec) -> dict[str, Any]:
    exported = {
        "PYSPARK_PYTHON": cluster.python,
        "PYSPARK_DRIVER_PYTHON": cluster.python,
        "AWS_REGION": cluster.region,
    }
    return {"Classification": "spark-env", "Configurations": [_classified("export", exported)]}


def _yarn_site(cluster: ClusterSpec) -> dict[str, str]:
    found: dict[str, str] = {}
    if cluster.schedules_gpus:
        # As EMR's guide to GPUs has it for 7.x (there for RAPIDS, whose plug-in is not used here).
        found |= {
            "yarn.resource-types": "yarn.io/gpu",
            f"{_YARN}resource-plugins": "yarn.io/gpu",
            f"{_YARN}resource-plugins.gpu.allowed-gpu-devices": "auto",
            f"{_YARN}resource-plugins.gpu.path-to-discovery-executables": "/usr/bin",
            f"{_YARN}linux-container-executor.cgroups.mount": "true",
            f"{_YARN}linux-container-executor.cgroups.mount-path": GPU_CGROUPS,
            f"{_YARN}linux-container-executor.cgroups.hierarchy": "yarn",
            f"{_YARN}container-executor.class": ("org.apache.hadoop.yarn.server.nodemanager.LinuxContainerExecutor"),
        }
    if cluster.spot_count:
        # Else the application master may come to lie on a spot node, whose loss ends the job; off by default since 6.0.
        found |= {
            "yarn.node-labels.enabled": "true",
            "yarn.node-labels.am.default-node-label-expression": "CORE",
        }
    return found


def _gpu_classes() -> list[dict[str, Any]]:
    calculator = "org.apache.hadoop.yarn.util.resource.DominantResourceCalculator"
    return [
        # It is what makes EMR install its GPU stack, the discovery script among it.
        _classified("spark", {"enableSparkRapids": "true"}),
        _classified(
            "container-executor",
            {},
            _classified("gpu", {"module.enabled": "true"}),
            _classified("cgroups", {"root": GPU_CGROUPS, "yarn-hierarchy": "yarn"}),
        ),
        # The default calculator sees memory only. This one sees GPUs, and counts cores too.
        _classified("capacity-scheduler", {"yarn.scheduler.capacity.resource-calculator": calculator}),
    ]


def security_configuration(kms_key: str = "", *, hops: int = 1) -> dict[str, Any]:
    """Give the content of an EMR security configuration: IMDSv2 only, S3 encrypted, with a key the local disks too.

    It is made once for an account (``create-security-configuration``, or by CloudFormation); a cluster names it.

    Args:
        kms_key: ARN of the KMS key for EBS volumes and local disks; empty for S3's own encryption alone.
        hops: how far an answer of the instance metadata service may travel; 1 keeps it from containers with networks
            of their own.
    """
    rest: dict[str, Any] = {"S3EncryptionConfiguration": {"EncryptionMode": "SSE-S3"}}
    if kms_key:
        rest["LocalDiskEncryptionConfiguration"] = {
            "EncryptionKeyProviderType": "AwsKms",
            "AwsKmsKey": kms_key,
            "EnableEbsEncryption": True,
        }
    return {
        "EncryptionConfiguration": {
            "EnableInTransitEncryption": False,
            "EnableAtRestEncryption": True,
            "AtRestEncryptionConfiguration": rest,
        },
        "InstanceMetadataServiceConfiguration": {
            "MinimumInstanceMetadataServiceVersion": 2,
            "HttpPutResponseHopLimit": hops,
        },
    }
