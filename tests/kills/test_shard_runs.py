"""Runs of shards under a real scheduler: a batch is cleared, dates are backfilled, training follows a night."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jobs.night_lab import DUE, make_due, make_source, small, small_range, spoil
from kills.airflow_lab import AirflowLab
from kills.shard_runs_lab import PROJECT, asked_of, content, reaching, records, shard_runs_lab, wait

from shardmill.adapters.store import Store
from shardmill.laptop.airflow import command
from shardmill.specs.shard_runs import BackfillSpec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
FOLLOWER = "train_on_fresh_records"
BACKFILLS = "/api/v2/backfills?dag_id=backfill_shards"


def follower() -> str:
    """The DAG that the documentation shows, which begins nothing that costs."""
    text = (PROJECT / "docs" / "nightly-and-backfill.md").read_text()
    (shown,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if FOLLOWER in block]
    assert '{"max_usd": 20}' in shown
    return shown.replace('{"max_usd": 20}', '{"dry_run": True}')


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowLab]:
    folder = tmp_path_factory.mktemp("shard-runs")
    with shard_runs_lab(folder, "video_pipeline", texts={FOLLOWER: follower()}) as started:
        yield started


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_source(tmp_path_factory.mktemp("source"))


def tries_of(lab: AirflowLab, run: str) -> dict[str, int]:
    return {state.name: state.try_number for state in lab.api.task_states("backfill_shards", run)}


def test_clearing_a_batch_as_the_ui_does_redoes_only_its_missing_shard(
    lab: AirflowLab, source: Path, tmp_path: Path
) -> None:
    lake, run = (tmp_path / "lake").as_uri(), "cleared"
    asked = small_range(source, lake, shards="000001..000006", preview=False, canary=False, min_batches=3)
    lab.api.trigger("backfill_shards", asked_of(asked), run)
    assert wait(lab, "backfill_shards", run) == "success"
    made, before = content(lake), tries_of(lab, run)
    batches = lab.api.xcom("backfill_shards", run, "plan", "return_value")
    index, (kept, lost) = next((index, batch[:2]) for index, batch in enumerate(batches) if len(batch) > 1)
    store = Store(lake)
    keys = [item.key for item in store.list() if f"/{lost:06d}/" in item.key and not item.key.startswith("runs/")]
    assert len([key for key in keys if "/_manifests/" in key]) == 3
    store.delete(keys)

    task = ["shards", index]
    body = {"dag_run_id": run, "task_ids": [task], "dry_run": False, "only_failed": False, "include_downstream": True}
    lab.api._send("POST", "/api/v2/dags/backfill_shards/clearTaskInstances", body)
    assert wait(lab, "backfill_shards", run) == "success"
    assert content(lake) == made
    after = tries_of(lab, run)
    assert {name for name in after if after[name] > before[name]} == {"plan", f"shards[{index}]", "count", "report"}
    (again,) = [state for state in lab.api.task_states("backfill_shards", run) if state.name == f"shards[{index}]"]
    lines = list(lab.api.log_lines("backfill_shards", run, again))
    told = {line.partition(" (")[0] for line in lines if re.match(r"shard \d{6}: (did|nothing)", line)}
    assert told >= {f"shard {lost:06d}: did", f"shard {kept:06d}: nothing to do"}
    assert len([line for line in told if line.endswith(": did")]) == 1


def backfill_dates(lab: AirflowLab, asked: BackfillSpec, dates: tuple[str, str], *options: str) -> dict[str, list[str]]:
    """Run ``airflow backfill create``, wait until its runs succeeded; give these by date."""
    before = {str(run["dag_run_id"]) for run in runs_of(lab, "backfill_shards")}
    first, last = dates
    subprocess.run(
        command(
            *("backfill", "create", "--dag-id", "backfill_shards", "--from-date", first, "--to-date", last),
            *("--max-active-runs", "2", "--dag-run-conf", json.dumps(asked_of(asked)), *options),
        ),
        env=lab.settings,
        check=True,
        capture_output=True,
    )
    made: dict[str, list[str]] = {}
    for run in runs_of(lab, "backfill_shards"):
        if (name := str(run["dag_run_id"])) not in before:
            made.setdefault(str(run["partition_key"]), []).append(name)
            assert wait(lab, "backfill_shards", name) == "success"
    # Another one is refused until Airflow has noted that this one is over.
    until(lambda: all(one["completed_at"] for one in lab.api._send("GET", BACKFILLS)["backfills"]), lab)
    return made


def test_airflows_backfill_by_date_does_the_shards_of_each_date_and_none_of_them_twice(
    lab: AirflowLab, source: Path, tmp_path: Path
) -> None:
    lake = (tmp_path / "lake").as_uri()
    assert lab.api._send("GET", "/api/v2/dags/backfill_shards")["is_backfillable"], "the UI offers it"
    by_date = {"first_date": "2026-01-01", "shards_per_date": 3, "min_batches": 2}
    asked = small_range(source, lake, preview=False, canary=False, **by_date)
    without = asked_of(asked.model_copy(update={"first_date": ""}))
    dates = {"dag_id": "backfill_shards", "from_date": "2026-01-01T00:00:00Z", "to_date": "2026-01-02T00:00:00Z"}
    with pytest.raises(httpx.HTTPStatusError, match=r"400 .*first_date: expected the date that"):
        lab.api._send("POST", "/api/v2/backfills", {**dates, "dag_run_conf": without})
    runs = backfill_dates(lab, asked, ("2026-01-01", "2026-01-02"))
    assert {day: len(names) for day, names in runs.items()} == {"2026-01-01": 1, "2026-01-02": 1}
    assert {day: planned(lab, name) for day, (name,) in runs.items()} == {
        "2026-01-01": [0, 1, 2],
        "2026-01-02": [3, 4, 5],
    }
    by_hand = {"dag_run_id": "one-date", "logical_date": "2026-11-22T00:00:00Z", "partition_key": "2026-01-03"}
    lab.api._send("POST", "/api/v2/dags/backfill_shards/dagRuns", {**by_hand, "conf": asked_of(asked)})
    assert wait(lab, "backfill_shards", "one-date") == "success"
    assert planned(lab, "one-date") == [6, 7, 8]
    made = content(lake)
    assert len([key for key in made if "/_manifests/" in key]) == 9 * 3

    again = backfill_dates(lab, asked, ("2026-01-01", "2026-01-05"), "--reprocess-behavior", "completed")
    assert {day: planned(lab, name) for day, (name,) in again.items()} == {
        "2026-01-01": [],
        "2026-01-02": [],
        "2026-01-03": [],
        "2026-01-04": [9],
        "2026-01-05": [],
    }
    (nothing,) = again["2026-01-05"]
    told = str(lab.api.xcom("backfill_shards", nothing, "plan", "summary"))
    assert "2026-01-05: shards 000012 to 000014 fall on it, 0 of them are there; nothing to do" in told
    after = content(lake)
    assert {key: after[key] for key in made} == made
    manifests = [key for key in after if "/_manifests/" in key]
    assert len(manifests) == 10 * 3 and all(key.endswith("r000.json") for key in manifests)


def planned(lab: AirflowLab, run: str) -> list[int]:
    """Give the shards for which a run had something to do."""
    return sorted(shard for batch in lab.api.xcom("backfill_shards", run, "plan", "return_value") for shard in batch)


def test_in_s3_a_canary_that_is_not_as_planned_stops_the_backfill_with_the_comparison(
    lab: AirflowLab, source: Path, tmp_path: Path
) -> None:
    lake, changed, run = "s3://shardmill-lake/canary", tmp_path / "source", "bad-canary"
    shutil.copytree(source, changed)
    spoil(changed / "sample-000001.tar")
    asked = small_range(changed, lake, shards="000001..000006", preview=False, min_batches=2)
    lab.api.trigger("backfill_shards", asked_of(asked), run)
    assert wait(lab, "backfill_shards", run) == "failed"
    told = str(lab.api.xcom("backfill_shards", run, "canary", "failure"))
    assert "canary: shard 000001 is not as planned, the other shards were not begun" in told
    assert "rejects 2 of 2 (100%), allowed 10%" in told and "time " in told and " planned " in told
    states = {state.name: state.state for state in lab.api.task_states("backfill_shards", run)}
    assert (states["canary"], states["shards"], states["count"]) == ("failed", "upstream_failed", "upstream_failed")
    with reaching(lab.cloud):
        manifests = [key for key in content(lake) if "/_manifests/" in key]
    assert {int(key.split("/")[-2]) for key in manifests} == {1}, "of the others nothing was begun"


def test_in_s3_a_night_does_six_of_ten_shards_and_the_next_one_none_in_seconds(
    lab: AirflowLab, source: Path, tmp_path: Path
) -> None:
    lake = "s3://shardmill-lake/night"
    changed = tmp_path / "source"
    shutil.copytree(source, changed)
    asked = asked_of(small(changed, lake, batch_mb=1))
    lab.api._send("PATCH", "/api/v2/dags/nightly_reprocess", {"is_paused": False})
    with reaching(lab.cloud):
        make_due(changed, lake)
        before = {key for key in content(lake) if "/_manifests/" in key}
        lab.api.trigger("nightly_reprocess", asked, "night")
        assert wait(lab, "nightly_reprocess", "night") == "success"
        made = {key for key in content(lake) if "/_manifests/" in key} - before
    assert {int(key.split("/")[-2]) for key in made} == set(DUE)
    started = time.monotonic()
    lab.api.trigger("nightly_reprocess", asked, "next-night")
    assert wait(lab, "nightly_reprocess", "next-night") == "success"
    seconds = time.monotonic() - started
    print(f"a night without work: {seconds:.0f} s from trigger to end")
    told = lab.api.xcom("nightly_reprocess", "next-night", "plan", "summary")
    assert told["line"] == "nothing is due: all 10 shards of the range are up to date"
    assert not [task for task in lab.api.task_states("nightly_reprocess", "next-night") if task.map_index >= 0]
    assert seconds < 60, "half a minute, and as much again for a machine that is busy"


def test_training_follows_a_night_when_all_shards_but_one_are_fresh_and_the_report_names_the_missing_one(
    lab: AirflowLab, source: Path, tmp_path: Path
) -> None:
    lake, run = "s3://shardmill-lake/fresh", "fresh-but-one"
    for name in ("sample-000002.tar", "sample-000003.tar", "sample-000004.tar", "labels.csv"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    (tmp_path / "sample-000003.tar").write_bytes(b"no tar" * 200)
    lab.api._send("PATCH", "/api/v2/dags/nightly_reprocess", {"is_paused": False})
    lab.api.trigger("nightly_reprocess", asked_of(small(tmp_path, lake, missing_ok=1)), run)
    assert wait(lab, "nightly_reprocess", run) == "failed", "a shard is damaged"
    with reaching(lab.cloud):
        store = Store(lake)
        assert records(lake) == 2
        (page,) = [store.get(item.key).decode() for item in store.list("runs") if item.key.endswith("/report.html")]
    assert "2 of 3 shards are fresh" in page and "missing: shard 000003" in page

    until(lambda: any(run["conf"]["lake"] == lake for run in runs_of(lab, "video_pipeline")), lab)
    (followed,) = [run for run in runs_of(lab, "video_pipeline") if run["conf"]["lake"] == lake]
    assert followed["conf"]["shards"] == "000002,000004"
    name = str(followed["dag_run_id"])
    assert wait(lab, "video_pipeline", name) == "success"
    told = str(lab.api.xcom("video_pipeline", name, "plan", "summary"))
    assert "2 shards of " in told and "all done" in told
    assert all(one["state"] == "success" for one in runs_of(lab, FOLLOWER))


def runs_of(lab: AirflowLab, dag: str) -> list[dict[str, Any]]:
    return list(lab.api._send("GET", f"/api/v2/dags/{dag}/dagRuns?limit=100")["dag_runs"])


def until(is_so: Callable[[], bool], lab: AirflowLab, seconds: float = 300) -> None:
    give_up = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < give_up
        lab.look()
        time.sleep(1)
