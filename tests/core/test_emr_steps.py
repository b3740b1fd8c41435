from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from core.service_models import golden, validate

from shardmill.core.emr_steps import dist_cp_step, hdfs_uri, seconds_left, spark_step
from shardmill.core.planning import BadRequestError

CODE = ("s3://l/c.zip", "s3://l/j.py")
DEADLINE = datetime(2026, 11, 21, 6, tzinfo=UTC)


def command(step: dict) -> list[str]:
    return step["HadoopJarStep"]["Args"]


def test_a_step_is_valid_by_the_service_model():
    for seconds in (None, 3600):
        step = spark_step("train r1", code=CODE, arguments=("train", "s3://l/spec"), workers=2, seconds=seconds)
        assert validate("AddJobFlowSteps", {"JobFlowId": "j-1", "Steps": [step]}) == ""


def test_settings_of_a_step_stand_before_its_script():
    arguments = command(spark_step("s", code=CODE, arguments=("a",), workers=2, settings={"spark.b": "1"}))
    assert arguments[arguments.index("--conf") + 1] == "spark.b=1"
    assert arguments.index("--conf") < arguments.index("s3://l/j.py")


def test_a_step_with_a_limit_runs_under_timeout_and_is_else_the_same():
    free = command(spark_step("s", code=CODE, arguments=("a",), workers=2))
    limited = command(spark_step("s", code=CODE, arguments=("a",), workers=2, seconds=600))
    assert limited == ["timeout", "-k", "60", "600", *free]
    assert free[0] == "spark-submit"


@pytest.mark.parametrize(
    ("before", "seconds"),
    [
        (timedelta(hours=6), 6 * 3600 - 60),
        (timedelta(minutes=10, seconds=59), 540),
        (timedelta(minutes=2), 60),
        (timedelta(seconds=30), 60),
        (timedelta(seconds=-30), 60),
    ],
)
def test_a_step_ends_a_minute_before_its_clusters_deadline_in_whole_minutes(before, seconds):
    assert seconds_left(DEADLINE, DEADLINE - before) == seconds


def test_the_copy_into_hdfs_is_the_one_in_the_file_and_valid():
    step = dist_cp_step(
        "records r1",
        "s3://lake/features/sample/0123456789ab",
        "hdfs:///shardmill/r1/records",
        pattern=r".*/[0-9]{6}/r[0-9]{3}/.*\.tfrecord",
        seconds=1800,
    )
    assert step == golden("dist_cp_step.json", step)
    assert validate("AddJobFlowSteps", {"JobFlowId": "j-1", "Steps": [step]}) == ""


def test_a_part_lies_in_hdfs_where_the_copy_puts_it():
    source, target = "s3://lake/features/d/x/", "hdfs:///shardmill/r1"
    assert hdfs_uri("s3://lake/features/d/x/000001/r001/a.tfrecord", source, target) == (
        "hdfs:///shardmill/r1/000001/r001/a.tfrecord"
    )
    with pytest.raises(BadRequestError, match="is not in s3://lake/features/d/x/"):
        hdfs_uri("s3://lake/features/d/x2/a.tfrecord", source, target)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("file:///lake", "hdfs:///a", "source: s3-dist-cp copies from s3://"),
        ("s3://my_lake/x", "hdfs:///a", "source: s3-dist-cp cannot read a bucket with an underscore"),
        ("s3://lake/x", "hdfs://elsewhere/a", "target: expected hdfs:///folder"),
        ("s3://lake/x", "hdfs:///a/../../user", "target: expected hdfs:///folder"),
        ("s3://lake/x", "hdfs:///", "target: expected hdfs:///folder"),
    ],
)
def test_a_copy_that_could_not_work_is_refused_by_field(source, target, message):
    with pytest.raises(BadRequestError, match=message):
        dist_cp_step("copy", source, target)
