"""Nights in an Airflow with a database and a task runner, on real videos; and what scheduled nights ask."""

from __future__ import annotations

import json
import os
import re
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from dags.airflow_runs import run_dag
from jobs.night_lab import DUE, make_due, make_source, small

from shardmill.adapters.store import Store

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


@pytest.mark.slow
def test_a_night_with_a_failed_batch_or_a_shard_above_a_cap_fails_and_its_report_says_so(tmp_path):
    source, lake = make_source(tmp_path), (tmp_path / "lake").as_uri()
    (source / "sample-000001.tar").write_bytes(b"no tar" * 200)
    values = {"shards": "000000..000001", "missing_ok": 1}
    asked = small(source, lake, **values).model_dump(exclude={"pipeline", "where", "retry_rejects"})
    failed, capped = run_dag(
        tmp_path, PROJECT / "dags", "nightly_reprocess", [asked, asked | {"shards": "000002", "max_hours": 1e-9}]
    )
    assert failed.state == "failed"
    assert (failed.states["announce"], failed.states["count"]) == ("success", "upstream_failed")
    assert failed.states["report"] == "success"
    assert "failed" in {state for _, _, state in failed.mapped}
    reports = {path.parent.name: path.read_text() for path in (tmp_path / "lake" / "runs").glob("*/report.html")}
    first, second = sorted(reports.values(), key=lambda page: "max_hours = 1e-09" in page)
    assert "1 of 2 shards are fresh" in first and "sample-000001.tar" in first and "verdict failed" in first
    assert re.search(r">announce<[^✓✗]+✓ done", first) and re.search(r">count<[^✓✗]+✗ not reached", first)

    assert (capped.state, capped.states["count"]) == ("failed", "failed")
    assert "nothing is done tonight; left: 1 shard, alone more than max_hours = 1e-09" in capped.told["plan"]
    assert "No night will do it: raise max_hours" in capped.told["count"]
    assert "No night will do it: raise max_hours" in second and "verdict failed" in second


def test_airflow_makes_no_night_of_a_backfill_by_date(nightly):
    from airflow.sdk.api.datamodels._generated import DagRunType

    assert set(DagRunType) - nightly.allowed_run_types == {DagRunType.BACKFILL, DagRunType.ASSET_TRIGGERED}


def test_nights_ask_what_the_installation_says_and_the_form_shows_it():
    from shardmill_airflow.nightly_settings import ASKED, nightly_form

    form = nightly_form({ASKED: '{"source": "s3://videos/all", "dataset": "all", "max_shards": 50}'})
    assert [form[name].value for name in ("source", "dataset", "max_shards")] == ["s3://videos/all", "all", 50]
    assert nightly_form({})["max_shards"].value == 1000
    assert not {"pipeline", "where", "retry_rejects"} & set(form)


def test_a_setting_is_kept_as_the_spec_reads_it_so_that_the_form_can_hold_it():
    from shardmill_airflow.nightly_settings import ASKED, nightly_form

    form = nightly_form({ASKED: '{"max_shards": "50", "max_hours": 3}'})
    assert (form["max_shards"].resolve(), form["max_hours"].resolve()) == (50, 3.0)


class Events:
    """An asset's events, the latest first."""

    def __init__(self, extras):
        self.extras = extras

    def __getitem__(self, asset):
        return self

    def ascending(self, upwards):
        assert not upwards
        return self

    def limit(self, count):
        return [SimpleNamespace(extra=extra) for extra in reversed(self.extras[-count:])]


def night_over(lake, shards, run, fresh):
    """A night that looks at a range, and what it tells; None where it calls for no training."""
    from shardmill.core.freshness import why_not_announced
    from shardmill.jobs.plan import keep_announced
    from shardmill.specs.shard_runs import NightlySpec
    from shardmill_airflow.shard_tasks import _announced, _told

    asked = NightlySpec(lake=lake.uri, shards=shards)
    opened = SimpleNamespace(lake=lake, run=SimpleNamespace(run=run, asked=asked, video=asked))

    def look(extras):
        if why_not_announced(fresh, 9, _announced(Events(extras), opened, fresh)):
            return None
        keep_announced(lake, run, fresh)
        return json.loads(json.dumps(_told(opened.run, fresh)))

    return look


def test_a_night_over_a_part_between_two_over_all_calls_for_no_training_again(tmp_path):
    from shardmill.core.freshness import shard_range
    from shardmill.specs.fresh import Fresh
    from shardmill.specs.value import short_hash

    lake = Store((tmp_path / "lake").as_uri(), create=True)

    def fresh(count):
        records = {shard: short_hash(shard) for shard in range(count)}
        values = {"shards": shard_range(records), "count": count, "missing": {}, "digest": short_hash(count)}
        return Fresh(dataset="sample", recipe="r", records=records, **values)

    extras = []
    for run, shards, count in (("1", "all", 3000), ("2", "000000..000004", 5)):
        extras.append(night_over(lake, shards, run, fresh(count))(extras))
        assert extras[-1]["shards"] == shards
    assert len(json.dumps(extras)) < 10_000, "an event's extra does not grow with the shards"
    assert night_over(lake, "all", "3", fresh(3000))(extras) is None
    assert night_over(lake, "all", "4", fresh(2999))(extras) is None, "one went away, nothing came"
    assert night_over(lake, "all", "5", fresh(3001))(extras)["fresh"] == 3001


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
    report = nightly.get_task("report")
    assert report.is_teardown and not report.on_failure_fail_dagrun
    assert report.upstream_task_ids >= {"announce", "count"}


def test_the_defaults_of_its_form_are_a_valid_spec(nightly):
    from shardmill.specs.shard_runs import NightlySpec
    from shardmill_airflow.forms import read_form

    assert read_form(NightlySpec, nightly.params.dump(), {}) == NightlySpec()
    for name in nightly.params:
        param = nightly.params.get_param(name)
        assert param.description, name
        assert param.schema.get("section") not in (None, "Other"), name
