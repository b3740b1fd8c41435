from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shardmill.core.emr_request import NodeSize, cluster_request, spark_step, whole_nodes
from shardmill.localcloud.submit_arguments import RefusedStepError
from shardmill.localcloud.translate import LocalNodes, Submission, translate_step
from shardmill.specs.cluster import ClusterSpec

PYTHON = "/env/bin/python"
NODES = LocalNodes("spark://127.0.0.1:7077", slots=2, memory_mib=1024, python=PYTHON)
FOLDER = Path("/state/step")
SCRIPT = "s3://bucket/code/job.py"
STATIC = {"Classification": "spark-defaults", "Properties": {"spark.dynamicAllocation.enabled": "false"}}


def translate(*arguments: str, configurations: list[dict[str, Any]] | None = None) -> Submission:
    return translate_step(
        ["spark-submit", *arguments], [STATIC] if configurations is None else configurations, NODES, FOLDER
    )


def settings(submission: Submission) -> dict[str, str]:
    pairs = zip(submission.argv, submission.argv[1:], strict=False)
    return dict(value.split("=", 1) for option, value in pairs if option == "--conf")


def test_the_pipelines_step_becomes_a_standalone_submit() -> None:
    spec = ClusterSpec(name="c", run="r", image_id="ami-01234567", log_uri="s3://logs/x", deadline="2026-11-21")
    step = spark_step(
        "train", code=("s3://b/code/p.zip", "s3://b/code/job.py"), arguments=["train", "s3://b/s"], workers=2
    )
    found = translate_step(step["HadoopJarStep"]["Args"], cluster_request(spec)["Configurations"], NODES, FOLDER)
    assert found.argv[:4] == ("--master", NODES.master_url, "--deploy-mode", "client")
    assert found.argv[-3:] == ("/state/step/files/1/job.py", "train", "s3://b/s")
    assert settings(found)["spark.cores.max"] == "2"
    assert settings(found)["spark.app.name"] == "train"
    assert settings(found)["spark.dynamicAllocation.enabled"] == "false"
    assert dict(found.downloads) == {
        "s3://b/code/p.zip": Path("/state/step/files/0/p.zip"),
        "s3://b/code/job.py": Path("/state/step/files/1/job.py"),
    }


def test_an_executor_that_takes_a_node_becomes_one_that_takes_a_slot() -> None:
    step = spark_step(
        "split",
        code=("s3://b/p.zip", "s3://b/job.py"),
        arguments=["split_on_cluster", "s3://b/s"],
        workers=2,
        settings=whole_nodes(NodeSize(8, 32768), 2),
    )
    found = translate(*step["HadoopJarStep"]["Args"][1:])
    assert settings(found)["spark.executor.cores"] == settings(found)["spark.task.cpus"] == "1"
    assert settings(found)["spark.executor.memory"] == "1024m"
    assert settings(found)["spark.cores.max"] == "2"
    assert not any("memoryOverhead" in name or ".yarn." in name for name in settings(found))


def test_pythons_of_the_image_become_the_cluster_environments() -> None:
    export = {"Classification": "export", "Properties": {"PYSPARK_PYTHON": "/usr/bin/python3.11", "MINE": "1"}}
    found = translate(
        *("--conf", "spark.executorEnv.PYSPARK_PYTHON=/usr/bin/python3.11", SCRIPT),
        configurations=[STATIC, {"Classification": "spark-env", "Configurations": [export]}],
    )
    assert {name: value for name, value in settings(found).items() if "python" in name.lower()} == {
        "spark.pyspark.python": PYTHON,
        "spark.pyspark.driver.python": PYTHON,
        "spark.executorEnv.PYSPARK_PYTHON": PYTHON,
    }
    assert dict(found.exports) == {"MINE": "1"}
    assert not any("no Python was named" in note for note in found.notes)


def test_a_step_that_names_no_python_is_told_what_emr_would_take() -> None:
    assert any("3.9" in note for note in translate(SCRIPT).notes)


def test_an_archives_python_is_left_to_the_executors() -> None:
    found = translate("--archives", "s3://b/env.tar.gz#env", "--conf", "spark.pyspark.python=./env/bin/python", SCRIPT)
    assert settings(found)["spark.pyspark.python"] == "./env/bin/python"
    assert "/state/step/files/0/env.tar.gz#env" in found.argv


def test_executors_cores_and_memory_fit_the_slots_and_it_is_noted() -> None:
    found = translate("--num-executors", "5", "--executor-cores=4", "--executor-memory", "4g", SCRIPT)
    assert settings(found)["spark.cores.max"] == "2"
    assert settings(found)["spark.executor.cores"] == "1"
    assert settings(found)["spark.executor.memory"] == "1024m"
    assert any("5 executors → 2" in note for note in found.notes)
    assert any("4096 MiB → 1024 MiB" in note for note in found.notes)


def test_one_executor_gets_one_slot_and_less_memory_stays_less() -> None:
    found = translate("--num-executors", "1", "--executor-memory", "512m", SCRIPT)
    assert (settings(found)["spark.cores.max"], settings(found)["spark.executor.memory"]) == ("1", "512m")


def test_dynamic_allocation_is_on_where_nobody_turned_it_off() -> None:
    found = translate(SCRIPT, configurations=[])
    assert settings(found)["spark.dynamicAllocation.enabled"] == "true"
    assert settings(found)["spark.dynamicAllocation.shuffleTracking.enabled"] == "true"
    assert any("barrier" in note for note in found.notes)


def test_an_option_beats_conf_and_conf_beats_the_classification() -> None:
    defaults = {"Classification": "spark-defaults", "Properties": {"spark.x": "1", "spark.y": "1"}}
    found = translate(
        "--name", "option", "--conf", "spark.app.name=conf", "--conf", "spark.x=2", SCRIPT, configurations=[defaults]
    )
    assert {name: settings(found)[name] for name in ("spark.app.name", "spark.x", "spark.y")} == {
        "spark.app.name": "option",
        "spark.x": "2",
        "spark.y": "1",
    }


def test_what_only_yarn_knows_is_dropped_with_a_note() -> None:
    names = ("spark.yarn.am.memory", "spark.executor.resource.gpu.amount", "spark.executor.memoryOverhead")
    found = translate(*(part for name in names for part in ("--conf", f"{name}=1")), SCRIPT)
    assert not set(names) & set(settings(found))
    assert all(any(name in note for note in found.notes) for name in names)


def test_cluster_mode_runs_as_client_mode_with_a_note() -> None:
    found = translate("--deploy-mode", "cluster", SCRIPT)
    assert found.argv[2:4] == ("--deploy-mode", "client")
    assert any("deploy mode cluster" in note for note in found.notes)


def test_yarn_classifications_are_noted() -> None:
    found = translate(SCRIPT, configurations=[STATIC, {"Classification": "yarn-site", "Properties": {"a": "b"}}])
    assert any("yarn-site is not applied" in note for note in found.notes)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bash", "-c", "true"], "runs spark-submit only, found 'bash'"),
        (["s3-dist-cp", "--src", "s3://b/x", "--dest", "hdfs:///x"], "the local cluster has no HDFS"),
        ([], "runs spark-submit only"),
        (["spark-submit"], "the script is missing"),
        (["spark-submit", "--no-such", "x", SCRIPT], "does not know the option '--no-such'"),
        (["spark-submit", "--executor-memory"], "a value must follow --executor-memory"),
        (["spark-submit", "--executor-memory", "much", SCRIPT], "expected a size"),
        (["spark-submit", "--num-executors", "0", SCRIPT], "expected a number above 0"),
        (["spark-submit", "--conf", "nonsense", SCRIPT], "expected --conf spark.name=value"),
        (["spark-submit", "--packages", "a:b:1", SCRIPT], "does not take --packages"),
        (["spark-submit", "--master", "spark://else:7077", SCRIPT], "expected --master yarn"),
        (["spark-submit", "/srv/job.py"], "expected s3://bucket/key"),
        (["spark-submit", "--py-files", "code.zip", SCRIPT], "--py-files: expected s3://bucket/key"),
    ],
)
def test_what_cannot_run_is_refused(arguments: list[str], words: str) -> None:
    with pytest.raises(RefusedStepError, match=words):
        translate_step(arguments, [STATIC], NODES, FOLDER)


def test_nobody_sends_executors_to_another_endpoint() -> None:
    found = translate("--conf", "spark.executorEnv.AWS_ENDPOINT_URL=http://else", SCRIPT)
    assert not any(name.startswith("spark.executorEnv.AWS_") for name in settings(found))


def test_a_step_under_timeout_keeps_it_and_is_translated_all_the_same() -> None:
    found = translate_step(["timeout", "-k", "60", "3600", "spark-submit", SCRIPT], [STATIC], NODES, FOLDER)
    assert found.timeout == ("timeout", "--kill-after=60", "3600")
    assert found.argv == translate(SCRIPT).argv
    assert translate(SCRIPT).timeout == ()


@pytest.mark.parametrize(
    "options", [("-s", "INT"), ("--signal=TERM",), ("--preserve-status", "-v"), ("--kill-after=1.5m",)]
)
def test_options_of_timeout_are_taken(options: tuple[str, ...]) -> None:
    assert translate_step(["timeout", *options, "1h", "spark-submit", SCRIPT], [STATIC], NODES, FOLDER).argv


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["timeout"], "expected a duration such as 3600, found 'nothing'"),
        (["timeout", "soon", "spark-submit"], "expected a duration such as 3600, found 'soon'"),
        (["timeout", "60"], "expected a command"),
        (["timeout", "-k", "later", "60", "spark-submit"], "-k: found 'later'"),
        (["timeout", "--foreground", "60", "spark-submit"], "does not know the option '--foreground'"),
        (["timeout", "60", "bash", "-c", "true"], "runs spark-submit only, found 'bash'"),
        (["timeout", "60", "s3-dist-cp", "--src", "s3://b/x"], "no HDFS"),
    ],
)
def test_a_timeout_that_cannot_be_is_refused(arguments: list[str], words: str) -> None:
    with pytest.raises(RefusedStepError, match=words):
        translate_step(arguments, [STATIC], NODES, FOLDER)


def test_an_event_log_is_written_beside_the_step_and_belongs_in_s3() -> None:
    events = {"spark.eventLog.enabled": "true", "spark.eventLog.dir": "s3://lake/runs/r/events/"}
    defaults = {"Classification": "spark-defaults", "Properties": {**events, "spark.eventLog.compress": "true"}}
    found = translate(SCRIPT, configurations=[STATIC, defaults])
    assert found.event_log == "s3://lake/runs/r/events"
    assert {name: value for name, value in settings(found).items() if "eventLog" in name} == {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": "file:///state/step/events",
        "spark.eventLog.compress": "true",
    }


@pytest.mark.parametrize(
    "events",
    [
        {"spark.eventLog.enabled": "true", "spark.eventLog.dir": "hdfs:///var/log/spark/apps"},
        {"spark.eventLog.enabled": "false", "spark.eventLog.dir": "s3://lake/events"},
        {"spark.eventLog.enabled": "true"},
    ],
)
def test_an_event_log_that_belongs_elsewhere_is_not_written(events: dict[str, str]) -> None:
    found = translate(SCRIPT, configurations=[STATIC, {"Classification": "spark-defaults", "Properties": events}])
    assert found.event_log == ""
    assert not any("eventLog" in name for name in settings(found))
    assert any("an event log is kept where" in note for note in found.notes)
