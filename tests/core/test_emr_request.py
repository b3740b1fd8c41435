from __future__ import annotations

import json

import pytest
from core.service_models import GOLDEN, golden, validate

from shardmill.core.emr_request import cluster_request, node_scripts, security_configuration
from shardmill.specs.cluster import BootstrapAction, ClusterSpec

KEY = "arn:aws:kms:eu-central-1:123456789012:key/12345678-aaaa-bbbb-cccc-1234567890ab"
DEADLINE = "2026-11-21T06:00:00+00:00"
CLUSTER = ClusterSpec(
    name="shardmill-video_pipeline.manual-1",
    run="video_pipeline.manual-1",
    core_type="g5.2xlarge",
    image_id="ami-0123456789abcdef0",
    log_uri="s3://lake/runs/r1/logs",
    deadline=DEADLINE,
)
GPU_CLUSTER = CLUSTER.model_copy(
    update={
        "owner": "ada@example.org",
        "applications": "Spark,Hadoop",
        "nodes": "fleets",
        "core_type": "g4dn.xlarge",
        "spot_count": 3,
        "spot_types": "g4dn.xlarge,g5.xlarge,g6.xlarge",
        "spot_timeout_action": "TERMINATE_CLUSTER",
        "log_kms_key": KEY,
        "event_logs": "s3://lake/spark-events",
        "security_configuration": "shardmill",
        "subnet_id": "subnet-0123456789abcdef0",
        "region": "eu-central-1",
        "bootstrap": tuple(
            BootstrapAction(name=name.removesuffix(".sh"), path=f"s3://lake/code/{name}", arguments=arguments)
            for name, arguments in node_scripts(DEADLINE, gpus=True).items()
        ),
    }
)


def properties(request: dict, name: str) -> dict[str, str]:
    return next((one["Properties"] for one in request["Configurations"] if one["Classification"] == name), {})


def changed(**changes: object) -> dict:
    return cluster_request(ClusterSpec(**(CLUSTER.model_dump() | changes)))


def test_the_whole_request_for_a_gpu_cluster_is_the_one_in_the_file():
    assert cluster_request(GPU_CLUSTER) == golden("gpu_cluster.json", cluster_request(GPU_CLUSTER))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"spot_count": 2},
        {"nodes": "fleets"},
        {"nodes": "fleets", "spot_count": 2, "subnet_id": "subnet-01234567"},
        {"nodes": "fleets", "spot_count": 2, "spot_strategy": "capacity-optimized-prioritized"},
        {"work": "split", "core_type": "m5.2xlarge", "applications": "Hadoop, Spark", "log_kms_key": KEY},
        {"bootstrap": GPU_CLUSTER.bootstrap, "security_configuration": "shardmill"},
    ],
    ids=str,
)
def test_the_request_is_valid_by_the_service_model(changes):
    assert validate("RunJobFlow", changed(**changes)) == ""


def test_the_request_of_the_file_is_valid_by_the_service_model():
    assert validate("RunJobFlow", json.loads((GOLDEN / "gpu_cluster.json").read_text())) == ""


def test_the_cluster_ends_itself_when_idle_and_carries_run_owner_and_deadline():
    request = cluster_request(CLUSTER)
    assert request["AutoTerminationPolicy"] == {"IdleTimeout": 900}
    assert {tag["Key"]: tag["Value"] for tag in request["Tags"]} == {
        "shardmill": "run",
        "run": "video_pipeline.manual-1",
        "work": "train",
        "dag": "video_pipeline",
        "owner": "shardmill",
        "deadline": "2026-11-21T06:00:00+00:00",
    }


def test_a_run_without_a_dag_in_its_name_has_no_such_tag():
    assert "dag" not in {tag["Key"] for tag in changed(run="by-hand")["Tags"]}


def test_master_and_core_nodes_are_on_demand_and_spot_nodes_are_task_nodes():
    groups = changed(spot_count=3, spot_types="g5.xlarge")["Instances"]["InstanceGroups"]
    assert [(one["InstanceRole"], one["Market"], one["InstanceCount"]) for one in groups] == [
        ("MASTER", "ON_DEMAND", 1),
        ("CORE", "ON_DEMAND", 2),
        ("TASK", "SPOT", 3),
    ]
    assert groups[2]["InstanceType"] == "g5.xlarge"
    fleets = changed(spot_count=3, nodes="fleets")["Instances"]["InstanceFleets"]
    assert [one.get("TargetOnDemandCapacity") for one in fleets] == [1, 2, None]
    assert [one.get("TargetSpotCapacity") for one in fleets] == [None, None, 3]


def test_a_fleet_of_spot_nodes_has_types_a_strategy_and_an_end_of_its_patience():
    task = cluster_request(GPU_CLUSTER)["Instances"]["InstanceFleets"][2]
    assert [one["InstanceType"] for one in task["InstanceTypeConfigs"]] == ["g4dn.xlarge", "g5.xlarge", "g6.xlarge"]
    assert {one["WeightedCapacity"] for one in task["InstanceTypeConfigs"]} == {1}
    assert task["LaunchSpecifications"]["SpotSpecification"] == {
        "TimeoutDurationMinutes": 20,
        "TimeoutAction": "TERMINATE_CLUSTER",
        "AllocationStrategy": "price-capacity-optimized",
    }


def test_without_spot_nodes_nothing_is_asked_on_the_spot_market():
    for nodes in ("groups", "fleets"):
        assert "SPOT" not in json.dumps(changed(nodes=nodes)).upper()


def test_priorities_are_given_in_the_order_of_the_types_where_the_strategy_takes_them():
    asked = {"nodes": "fleets", "spot_count": 1, "spot_types": "g5.xlarge,g4dn.xlarge"}
    prioritized = changed(**asked, spot_strategy="capacity-optimized-prioritized")
    types = prioritized["Instances"]["InstanceFleets"][2]["InstanceTypeConfigs"]
    assert [(one["InstanceType"], one["Priority"]) for one in types] == [("g5.xlarge", 0.0), ("g4dn.xlarge", 1.0)]


@pytest.mark.parametrize("nodes", ["groups", "fleets"])
def test_the_image_is_named_once_for_the_cluster(nodes):
    request = changed(nodes=nodes, spot_count=1)
    assert request["CustomAmiId"] == CLUSTER.image_id
    assert "CustomAmiId" not in json.dumps(request["Instances"])


def test_the_application_master_stays_off_the_spot_nodes():
    labels = {"yarn.node-labels.enabled": "true", "yarn.node-labels.am.default-node-label-expression": "CORE"}
    assert labels.items() <= properties(changed(spot_count=1), "yarn-site").items()
    assert not labels.keys() & properties(changed(), "yarn-site").keys()


def test_yarn_hands_out_gpus_only_where_the_work_uses_them():
    plain = [changed(work="split"), changed(core_type="m5.xlarge"), changed(core_type="g4ad.xlarge")]
    for request in plain:
        assert "gpu" not in json.dumps(request["Configurations"]).lower()
    assert properties(changed(), "yarn-site")["yarn.resource-types"] == "yarn.io/gpu"
    assert properties(changed(), "spark-defaults")["spark.task.resource.gpu.amount"] == "1"


def test_every_node_gets_a_timer_behind_the_deadline_and_before_anything_else():
    scripts = node_scripts(DEADLINE, gpus=True)
    assert list(scripts.items()) == [("deadline.sh", ("2026-11-21T06:01:00+00:00",)), ("gpu_cgroups.sh", ())]
    assert list(node_scripts(DEADLINE, gpus=False)) == ["deadline.sh"]


def test_driver_and_executors_get_the_same_python_and_no_dynamic_allocation():
    defaults = properties(cluster_request(CLUSTER), "spark-defaults")
    assert defaults["spark.dynamicAllocation.enabled"] == "false"
    assert {value for key, value in defaults.items() if "python" in key.lower()} == {"/usr/bin/python3.11"}


def test_a_security_configuration_allows_imds_v2_only_and_encrypts():
    found = security_configuration(KEY)
    assert found["InstanceMetadataServiceConfiguration"] == {
        "MinimumInstanceMetadataServiceVersion": 2,
        "HttpPutResponseHopLimit": 1,
    }
    at_rest = found["EncryptionConfiguration"]["AtRestEncryptionConfiguration"]
    assert at_rest["LocalDiskEncryptionConfiguration"]["AwsKmsKey"] == KEY
    assert "LocalDiskEncryptionConfiguration" not in json.dumps(security_configuration())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": "ami-1; rm -rf /"}, "image_id"),
        ({"core_type": "$(id)"}, "core_type"),
        ({"python": "/bin/sh -c"}, "python"),
        ({"name": "a b"}, "name"),
        ({"owner": "a\nb"}, "owner"),
        ({"log_kms_key": "alias/key"}, "log_kms_key"),
        ({"applications": "Hadoop"}, "applications\n.*expected Spark among them"),
        ({"applications": "Spark, $(id)"}, "applications\n.*expected names of EMR's applications"),
        ({"spot_types": "g5.xlarge,g6.xlarge"}, "spot_types: an instance group has one type"),
        ({"spot_types": "m5.xlarge"}, "spot_types: m5.xlarge and core_type g5.2xlarge: either all of them have GPUs"),
        ({"spot_types": "g5", "nodes": "fleets"}, "spot_types\n.*expected instance types"),
        ({"spot_types": ",".join(f"g5.{n}xlarge" for n in range(2, 8)), "nodes": "fleets"}, "at most 5 instance types"),
        ({"spot_timeout_minutes": 4}, "spot_timeout_minutes"),
        ({"release_label": "emr-6.15.0"}, "release_label: g5.2xlarge has GPUs"),
    ],
)
def test_what_emr_would_refuse_or_a_shell_would_run_is_refused_by_field(changes, message):
    with pytest.raises(ValueError, match=message):
        changed(**changes)
