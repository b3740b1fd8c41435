from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
DAG_FILES = sorted((PROJECT / "dags").glob("*.py"))
PARSE = """
import json, os, sys, time
import airflow.sdk, airflow.dag_processing.dagbag
import runpy

def no_network(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"{event} {arguments}")

def parse(path):
    sys.addaudithook(no_network)
    started = time.process_time()  # the clock on the wall would show what else the machine does
    runpy.run_path(path)
    seconds = time.process_time() - started
    return [seconds, sorted({"tensorflow", "keras", "pyspark", "boto3", "obstore", "av"} & set(sys.modules))]

for path in sys.argv[1:]:
    told, tell = os.pipe()
    if not os.fork():  # each file begins with what Airflow alone has imported
        os.write(tell, json.dumps([path, *parse(path)]).encode())
        os._exit(0)
    os.close(tell)
    print(os.read(told, 65536).decode(), flush=True)
    os.close(told)
    os.wait()
"""


@pytest.fixture(scope="module")
def parses(tmp_path_factory):
    """Parse every DAG file afresh; give the seconds that each took and the heavy packages that it imported."""
    done = subprocess.run(
        [sys.executable, "-c", PARSE, *map(str, DAG_FILES)],
        env={
            "AIRFLOW_HOME": str(tmp_path_factory.mktemp("parse")),
            "PATH": "/usr/bin:/bin",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    told = [json.loads(line) for line in done.stdout.splitlines() if line]
    assert len(told) == len(DAG_FILES), done.stderr
    return {path: (seconds, heavy) for path, seconds, heavy in told}


@pytest.fixture(scope="module")
def dags(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
    patch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    patch.setenv("AIRFLOW__CORE__PLUGINS_FOLDER", str(PROJECT / "plugins"))
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(PROJECT / "dags"))
    assert bag.import_errors == {}
    yield bag.dags
    patch.undo()


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.stem)
def test_a_dag_file_is_read_within_a_second_without_network_and_heavy_packages(parses, path):
    seconds, heavy = parses[str(path)]
    assert seconds < 1.0
    assert heavy == []


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.stem)
def test_a_dag_file_stays_short(path):
    assert len(path.read_text().splitlines()) <= 80


def test_every_dag_has_documentation_owner_tags_retries_and_time_outs(dags):
    for dag in dags.values():
        assert dag.doc_md, dag.dag_id
        assert dag.tags, dag.dag_id
        assert dag.dagrun_timeout, dag.dag_id
        for task in dag.tasks:
            assert task.owner == "shardmill", task.task_id
            assert task.retries >= 1, task.task_id
            assert task.execution_timeout, task.task_id


def test_every_cluster_is_torn_down_even_where_its_own_setup_failed(dags):
    for dag in dags.values():
        creators = {task.task_id for task in dag.tasks if task.task_type == "CreateCluster"}
        for creator in creators:
            teardowns = [task for task in dag.tasks if task.is_teardown and creator in task.upstream_task_ids]
            assert [task.task_type for task in teardowns] == ["DeleteCluster"]
            other_setups = {name for name in teardowns[0].upstream_task_ids - {creator} if dag.get_task(name).is_setup}
            assert other_setups, "a teardown runs when one of its setups succeeded: it needs one that comes earlier"


def test_a_cluster_is_used_and_torn_down_by_the_tasks_of_the_same_work(dags):
    for dag in dags.values():
        for creator in (task for task in dag.tasks if task.task_type == "CreateCluster"):
            followers = [dag.get_task(name) for name in creator.downstream_task_ids]
            assert {task.task_type for task in followers} == {"RunJob", "DeleteCluster"}, creator.task_id
            assert {task.work for task in followers} == {creator.work}, creator.task_id
        works = [task.work for task in dag.tasks if task.task_type == "CreateCluster"]
        assert len(works) == len(set(works))


def test_what_comes_behind_both_ways_to_split_waits_for_both_and_takes_either(dags):
    label = dags["video_pipeline"].get_task("label")
    assert label.upstream_task_ids == {"split", "split_on_cluster"}
    assert label.trigger_rule == "none_failed"


def test_every_task_but_one_that_ends_a_machine_links_to_what_it_works_with(dags):
    for dag in dags.values():
        linked = {task.task_id for task in dag.tasks if task.operator_extra_links}
        left_out = {task.task_id for task in dag.tasks} - linked
        assert linked, dag.dag_id
        if any(task.task_type == "CreateCluster" for task in dag.tasks):
            assert {dag.get_task(name).task_type for name in left_out} <= {"DeleteCluster"}, (dag.dag_id, left_out)


def test_a_mapped_task_is_named_by_its_shards(dags):
    for dag in dags.values():
        for task in dag.tasks:
            if task.is_mapped:
                assert task.map_index_template == "{{ shards }}", task.task_id


def test_the_report_of_a_run_is_one_click_away(dags):
    for name in ("video_pipeline", "train_on_records"):
        assert {link.name for link in dags[name].get_task("report").operator_extra_links} == {
            "Report",
            "Folder in the lake",
        }


def test_the_documentation_of_a_dag_says_what_a_run_does_costs_and_leaves_behind(dags):
    for dag in dags.values():
        for words in ("What a run does:", "What it costs:", "What it leaves behind:"):
            assert f"**{words}**" in dag.doc_md, (dag.dag_id, words)


def test_people_are_told_of_the_runs_of_every_dag(dags):
    from shardmill_airflow.deadlines import RunDeadline
    from shardmill_airflow.notifying import tell_failure

    for dag in dags.values():
        told = dag.on_failure_callback if isinstance(dag.on_failure_callback, list) else [dag.on_failure_callback]
        assert tell_failure in told, dag.dag_id
        assert [type(alert.reference) for alert in dag.deadline] == [RunDeadline], dag.dag_id


def test_a_teardown_of_a_cluster_outlasts_hours_without_aws(dags):
    for dag in dags.values():
        for task in dag.tasks:
            if task.task_type == "DeleteCluster":
                assert task.retries >= 10
                assert task.retry_exponential_backoff > 1


@pytest.mark.parametrize("name", ["video_pipeline", "train_on_records"])
def test_a_failed_evaluation_fails_the_run_though_the_report_succeeds(dags, name):
    dag = dags[name]
    leaves = {task.task_id for task in dag.tasks if not task.downstream_task_ids}
    assert leaves == {"publish", "report"}
    assert "evaluate" in dag.get_task("publish").upstream_task_ids


def test_the_defaults_of_the_form_are_a_valid_spec(dags):
    from shardmill.specs.train_on_records import TrainOnRecordsSpec
    from shardmill.specs.video_pipeline import VideoPipelineSpec
    from shardmill_airflow.forms import read_form

    for name, spec in (("video_pipeline", VideoPipelineSpec), ("train_on_records", TrainOnRecordsSpec)):
        assert read_form(spec, dags[name].params.dump(), {}) == spec()


def test_both_forms_ask_the_same_of_training_and_of_the_cluster(dags):
    from shardmill.specs.cluster_run import ClusterRun

    for name in ClusterRun.model_fields:
        one, other = (dags[dag].params.get_param(name) for dag in ("video_pipeline", "train_on_records"))
        assert (one.value, one.schema, one.description) == (other.value, other.schema, other.description), name


def test_what_tells_one_kind_of_run_from_another_is_no_question_of_the_form(dags):
    assert "pipeline" not in dags["train_on_records"].params


def test_a_run_on_records_whose_files_are_all_known_goes_on_behind_the_skipped_fetch(dags):
    find = dags["train_on_records"].get_task("find")
    assert find.upstream_task_ids == {"fetch"}
    assert find.trigger_rule == "none_failed"


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"mirror": "http://user@host/x"}, "mirror: .*expected http://host/folder"),
        ({"mirror": "file:///etc"}, "mirror: .*expected http://host/folder"),
        ({"mirror": "http://host/a/../b"}, "mirror: "),
        ({"plans": "http://host/x?y=z"}, "plans: "),
        ({"train_partition": "2/frame/../.."}, "train_partition: "),
        ({"train_shard": "0,5"}, "train_shard: .*1 <= i <= n"),
        ({"train_shard": "6,5"}, "train_shard: .*1 <= i <= n"),
        ({"origin": "mirror", "train_partition": "2/video/train"}, "validation_partition: expected one of 2/video"),
        ({"source": "http://169.254.169.254/x"}, "source: .*expected s3://"),
        ({"shards": "all"}, "unknown field shards"),
    ],
)
def test_each_wrong_field_of_a_run_on_records_is_named(dags, conf, message):
    from airflow.sdk.exceptions import AirflowFailException

    from shardmill.specs.train_on_records import TrainOnRecordsSpec
    from shardmill_airflow.forms import read_form

    params = dags["train_on_records"].params.dump() | conf
    with pytest.raises(AirflowFailException, match=message):
        read_form(TrainOnRecordsSpec, params, conf)


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"clip_second": 2}, "unknown field clip_second"),
        ({"clip_seconds": 0}, "clip_seconds: "),
        ({"source": "http://169.254.169.254/x"}, "source: .*expected s3://"),
        ({"source": "s3://bucket/../other"}, "source: "),
        ({"shards": "000009..000003"}, "shards: .*the range '000009..000003' is empty"),
        ({"image_id": "ami-1; shutdown"}, "image_id: "),
        ({"core_type": "{{ var.value.x }}"}, "core_type: "),
    ],
)
def test_each_wrong_field_is_named(dags, conf, message):
    from airflow.sdk.exceptions import AirflowFailException

    from shardmill.specs.video_pipeline import VideoPipelineSpec
    from shardmill_airflow.forms import read_form

    params = dags["video_pipeline"].params.dump() | conf
    with pytest.raises(AirflowFailException, match=message):
        read_form(VideoPipelineSpec, params, conf)


@pytest.mark.parametrize("dag", ["video_pipeline", "train_on_records"])
def test_every_field_of_the_form_has_help_and_a_section(dags, dag):
    for name, param in dags[dag].params.items():
        assert dags[dag].params.get_param(name).description, name
        assert dags[dag].params.get_param(name).schema.get("section") not in (None, "Other"), (name, param)
