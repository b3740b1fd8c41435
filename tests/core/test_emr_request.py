from __future__ import annotations

import botocore.session
import botocore.validate
import pytest

from shardmill.core.emr_request import NodeSize, cluster_request, spark_step, whole_nodes
from shardmill.specs.cluster import ClusterSpec

CLUSTER = ClusterSpec(
    name="shardmill-r1",
    run="r1",
    image_id="ami-0123456789abcdef0",
    log_uri="s3://lake/runs/r1/logs",
    deadline="2026-11-21T06:00:00+00:00",
)


def validate(operation: str, request: dict) -> str:
    model = botocore.session.get_session().get_service_model("emr").operation_model(operation)
    return botocore.validate.ParamValidator().validate(request, model.input_shape).generate_report()


def test_the_cluster_request_is_valid_by_the_service_model():
    assert validate("RunJobFlow", cluster_request(CLUSTER)) == ""


def test_a_step_is_valid_by_the_service_model():
    step = spark_step("train r1", code=("s3://l/c.zip", "s3://l/j.py"), arguments=("train", "s3://l/spec"), workers=2)
    assert validate("AddJobFlowSteps", {"JobFlowId": "j-1", "Steps": [step]}) == ""


@pytest.mark.parametrize(
    ("memory_mib", "for_yarn_mib"),
    [(16384, 12288), (32768, 24576), (65536, 57344), (393216, 385024)],  # as EMR documents it for m5
)
def test_a_node_carries_one_executor_and_the_application_master_and_no_second_executor(memory_mib, for_yarn_mib):
    settings = whole_nodes(NodeSize(8, memory_mib), 3)
    memory = sum(int(settings[name].removesuffix("m")) for name in settings if "memory" in name)
    assert memory + 1024 <= for_yarn_mib
    assert 2 * memory > for_yarn_mib
    assert settings["spark.executor.cores"] == settings["spark.task.cpus"] == "8"


def test_a_node_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="at least 8 GiB, found 4096 MiB"):
        whole_nodes(NodeSize(2, 4096), 1)


def test_settings_of_a_step_stand_before_its_script():
    step = spark_step("s", code=("s3://l/c.zip", "s3://l/j.py"), arguments=("a",), workers=2, settings={"spark.b": "1"})
    arguments = step["HadoopJarStep"]["Args"]
    assert arguments[arguments.index("--conf") + 1] == "spark.b=1"
    assert arguments.index("--conf") < arguments.index("s3://l/j.py")
    assert validate("AddJobFlowSteps", {"JobFlowId": "j-1", "Steps": [step]}) == ""


def test_the_cluster_ends_itself_when_idle_and_carries_run_and_deadline():
    request = cluster_request(CLUSTER)
    assert request["AutoTerminationPolicy"] == {"IdleTimeout": 900}
    assert {tag["Key"]: tag["Value"] for tag in request["Tags"]} == {
        "shardmill": "run",
        "run": "r1",
        "work": "train",
        "deadline": "2026-11-21T06:00:00+00:00",
    }


def test_driver_and_executors_get_the_same_python_and_no_dynamic_allocation():
    defaults = cluster_request(CLUSTER)["Configurations"][0]["Properties"]
    assert defaults["spark.dynamicAllocation.enabled"] == "false"
    assert {value for key, value in defaults.items() if "python" in key.lower()} == {"/usr/bin/python3.11"}


@pytest.mark.parametrize(
    ("field", "value"),
    [("image_id", "ami-1; rm -rf /"), ("core_type", "$(id)"), ("python", "/bin/sh -c"), ("name", "a b")],
)
def test_hostile_text_in_a_cluster_field_is_refused(field, value):
    with pytest.raises(ValueError, match=field):
        ClusterSpec(**(CLUSTER.model_dump() | {field: value}))
