"""Backfills in an Airflow with a database and a task runner, on real videos."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dags.airflow_runs import run_dag
from jobs.night_lab import make_source, small_range, spoil

from shardmill.specs.shard_runs import BackfillSpec

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_backfill_previews_stops_at_a_bad_canary_goes_through_and_has_then_nothing_to_do(tmp_path):
    source, lake = make_source(tmp_path), (tmp_path / "lake").as_uri()
    spoil(source / "sample-000000.tar")
    asked = small_range(source, lake, shards="000000..000004", min_batches=2).model_dump(exclude={"pipeline", "where"})
    confs = [
        asked,
        asked | {"preview": False, "max_reject_share": BackfillSpec().max_reject_share},
        asked | {"preview": False, "shards": "000001..000004"},
        asked | {"preview": False, "shards": "000001..000004"},
    ]
    preview, stopped, through, again = run_dag(tmp_path, PROJECT / "dags", "backfill_shards", confs)

    assert (preview.state, preview.mapped) == ("success", [])
    assert (preview.states["canary"], preview.states["shards"]) == ("skipped", "skipped")
    assert "to do, of 5 shards of the range: 5 shards, " in preview.told["plan"]
    assert "preview: nothing is begun" in preview.told["plan"]

    assert stopped.state == "failed"
    assert stopped.states["canary"] == "failed" and stopped.mapped == []
    assert "shard 000000 is not as planned" in stopped.told["canary"], stopped.told
    assert "rejects 2 of 2 (100%), allowed 10%" in stopped.told["canary"]
    assert "max_reject_share: shard 000000: 2 of 2 samples were refused" in stopped.told["canary"]

    assert through.state == "success"
    assert "shard 000001 is as planned: time " in through.told["canary"]
    assert {(name, state) for name, _, state in through.mapped} == {("shards", "success")}
    assert len(through.mapped) >= 2
    assert "4 of 4 shards have records" in through.told["count"]

    assert (again.state, again.mapped) == ("success", [])
    assert "nothing to do: all 4 shards of the range are done" in again.told["plan"]
    assert again.seconds < 60
    revisions = sorted((tmp_path / "lake" / "clips").rglob("_manifests/*/r*.json"))
    assert [path.name for path in revisions] == ["r000.json"] * 4, "of the canary that stopped nothing was published"
    plans = [json.loads(path.read_text()) for path in (tmp_path / "lake" / "runs").glob("*/plan.json")]
    assert sorted(len(plan["shards"]) for plan in plans) == [0, 4, 5, 5]


def test_a_batch_that_failed_fails_the_run_though_the_report_succeeds(dags):
    for name, leaves in (("backfill_shards", {"count"}), ("nightly_reprocess", {"count", "announce"})):
        dag = dags[name]
        assert dag.get_task("report").upstream_task_ids >= leaves
        assert not dag.get_task("report").on_failure_fail_dagrun, "the tasks before it would be no leaves any more"
        assert dag.get_task("count").upstream_task_ids == {"shards"}
        assert dag.get_task("count").trigger_rule == "none_failed"


@pytest.fixture(scope="module")
def dags(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
    patch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    from airflow.dag_processing.dagbag import DagBag

    yield DagBag(str(PROJECT / "dags")).dags
    patch.undo()


def test_a_backfill_has_bounded_tasks_at_work_and_stands_back_behind_the_nights(dags):
    batches, nightly = (dags[name].get_task("shards") for name in ("backfill_shards", "nightly_reprocess"))
    assert batches.max_active_tis_per_dagrun == 4
    assert batches.priority_weight < nightly.priority_weight
    assert batches.weight_rule == nightly.weight_rule == "absolute"


def test_nothing_of_a_backfill_begins_before_its_canary(dags):
    batches = dags["backfill_shards"].get_task("shards")
    assert batches.upstream_task_ids == {"canary", "plan"}
    assert batches.trigger_rule == "all_success"


def test_the_number_of_tasks_is_a_setting_and_a_wrong_one_is_named():
    from shardmill_airflow.backfill_settings import TASKS, tasks_at_once

    assert (tasks_at_once({}), tasks_at_once({TASKS: "12"})) == (4, 12)
    for text in ("0", "x", "-1", "1001"):
        with pytest.raises(ValueError, match="SHARDMILL_BACKFILL_TASKS: expected"):
            tasks_at_once({TASKS: text})


def test_the_defaults_of_its_form_are_a_valid_spec_that_begins_nothing(dags):
    from shardmill.specs.shard_runs import BackfillSpec
    from shardmill_airflow.forms import read_form

    form = dags["backfill_shards"].params
    found = read_form(BackfillSpec, form.dump(), {})
    assert found == BackfillSpec() and found.preview
    for name in form:
        assert form.get_param(name).description, name
        assert form.get_param(name).schema.get("section") not in (None, "Other"), name
