"""Nights in an Airflow with a database and a task runner, on real videos; and what scheduled nights ask."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest
from dags.airflow_runs import run_dag
from jobs.night_lab import DUE, make_due, make_source, small

PROJECT = Path(__file__).resolve().parents[2]
CONSUMER = """
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import dag, task
from shardmill_airflow.shard_tasks import RECORDS

@dag(schedule=[RECORDS], catchup=False)
def train_on_fresh_records():
    @task
    def asked(triggering_asset_events=None):
        return triggering_asset_events[RECORDS][-1].extra["train"]

    TriggerDagRunOperator(task_id="train", trigger_dag_id="video_pipeline", conf=asked())

train_on_fresh_records()
"""


@pytest.mark.slow
def test_a_night_does_six_of_ten_shards_and_the_next_one_ends_in_seconds_without_a_mapped_task(tmp_path):
    source, lake = make_source(tmp_path), (tmp_path / "lake").as_uri()
    make_due(source, lake)
    asked = small(source, lake, batch_mb=1).model_dump(exclude={"pipeline", "where", "retry_rejects"})
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "nightly_reprocess.py").write_text((PROJECT / "dags" / "nightly_reprocess.py").read_text())
    (dags / "train_on_fresh_records.py").write_text(CONSUMER)
    first, second = run_dag(tmp_path, dags, "nightly_reprocess", [{}, {}], {"SHARDMILL_NIGHTLY": json.dumps(asked)})
    assert first.state == second.state == "success", first
    assert first.mapped and {(name, state) for name, _, state in first.mapped} == {("shards", "success")}
    (event,) = first.events
    assert (event["fresh"], event["missing"]) == (10, "")
    assert event["train"]["shards"] == "000000..000009"
    assert first.waiting == ["train_on_fresh_records"]
    assert event["run"].startswith("nightly_reprocess.")
    assert second.states == {
        "plan": "success",
        "shards": "skipped",
        "announce": "skipped",
        "count": "success",
        "report": "success",
    }
    assert second.mapped == []
    assert second.events == first.events, "nothing is new"
    assert second.seconds < 30
    plans = sorted((tmp_path / "lake" / "runs").glob("nightly_reprocess.*/plan.json"), key=os.path.getmtime)
    assert [[shard["shard"] for shard in json.loads(path.read_text())["shards"]] for path in plans] == [list(DUE), []]


def test_nights_ask_what_the_installation_says_and_the_form_shows_it():
    from shardmill_airflow.nightly_settings import ASKED, nightly_form

    form = nightly_form({ASKED: '{"source": "s3://videos/all", "dataset": "all", "max_shards": 50}'})
    assert [form[name].value for name in ("source", "dataset", "max_shards")] == ["s3://videos/all", "all", 50]
    assert nightly_form({})["max_shards"].value == 1000
    assert not {"pipeline", "where", "retry_rejects"} & set(form)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"max_shard": 5}', "SHARDMILL_NIGHTLY: .*max_shard"),
        ('{"lake": "here"}', "SHARDMILL_NIGHTLY: .*lake"),
        ("{", "SHARDMILL_NIGHTLY: expected JSON"),
        ('{"where": "cluster"}', "SHARDMILL_NIGHTLY: .*where"),
    ],
)
def test_a_wrong_setting_is_named_when_the_dag_is_read(text, message):
    from shardmill_airflow.nightly_settings import ASKED, nightly_form

    with pytest.raises(ValueError, match=message):
        nightly_form({ASKED: text})


def test_nights_begin_at_two_unless_the_installation_says_when():
    from shardmill_airflow.nightly_settings import CRON, nightly_timetable

    assert nightly_timetable({}).expression == "0 2 * * *"
    assert nightly_timetable({CRON: "30 23 * * 1-5"}).expression == "30 23 * * 1-5"
    assert nightly_timetable({}).run_immediately == timedelta(0)


@pytest.fixture(scope="module")
def nightly(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
    patch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    from airflow.dag_processing.dagbag import DagBag

    yield DagBag(str(PROJECT / "dags" / "nightly_reprocess.py")).dags["nightly_reprocess"]
    patch.undo()


def test_a_night_that_still_runs_is_not_overtaken_and_none_is_made_up_for(nightly):
    assert (nightly.max_active_runs, nightly.catchup) == (1, False)
    assert nightly.is_paused_upon_creation


def test_a_failed_batch_fails_the_night_though_it_is_told_what_is_fresh(nightly):
    assert nightly.get_task("announce").trigger_rule == "all_done"
    assert nightly.get_task("count").trigger_rule == "none_failed"
    assert nightly.get_task("count").upstream_task_ids == {"shards"}
    assert nightly.get_task("report").is_teardown


def test_the_defaults_of_its_form_are_a_valid_spec(nightly):
    from shardmill.specs.shard_runs import NightlySpec
    from shardmill_airflow.forms import read_form

    assert read_form(NightlySpec, nightly.params.dump(), {}) == NightlySpec()
    for name in nightly.params:
        param = nightly.params.get_param(name)
        assert param.description, name
        assert param.schema.get("section") not in (None, "Other"), name
