"""Backfills under a real scheduler: it is killed, a night runs beside, thousands of shards are few tasks."""

from __future__ import annotations

import io
import os
import re
import signal
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs.night_lab import do, small, small_range
from kills.airflow_lab import AirflowLab, airflow_lab

from shardmill.adapters.store import Store
from shardmill.jobs.sample import make_sample
from shardmill.laptop.rest import ENDED
from shardmill.specs.shard_runs import BackfillSpec, NightlySpec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
PROJECT = Path(__file__).resolve().parents[2]
SHARDS, MANY, AT_ONCE = 200, 3000, 2
STUBS = """
from types import SimpleNamespace
from shardmill import stages

def _stub(*arguments):
    return lambda shard: SimpleNamespace(shard=shard, skipped=False, why="stubbed")

stages._ingesting = stages._splitting = stages._describing = _stub
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowLab]:
    folder = tmp_path_factory.mktemp("backfills")
    dags = folder / "dags"
    dags.mkdir()
    for name in ("backfill_shards", "nightly_reprocess"):
        (dags / f"{name}.py").write_text((PROJECT / "dags" / f"{name}.py").read_text())
    head, marker, rest = (dags / "backfill_shards.py").read_text().partition("@dag(")
    stubbed = rest.replace("backfill_shards()", "backfill_stubbed()")
    (dags / "backfill_stubbed.py").write_text(head + STUBS + "\n" + marker + stubbed)
    more = {
        "SHARDMILL_LAKE_ROOTS": "file:///",
        "SHARDMILL_SOURCE_ROOTS": "file:///",
        "SHARDMILL_BACKFILL_TASKS": str(AT_ONCE),
    }
    with airflow_lab(folder / "state", dags, "backfill_stubbed", more) as started:
        while not all(started.api.has_dag(name) for name in ("backfill_shards", "nightly_reprocess")):
            time.sleep(1)
        yield started


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred shards of one short video each; all have names of their own."""
    folder = tmp_path_factory.mktemp("many")
    make_sample(folder / "sample", videos=10, shards=1, seconds=(2, 2.1))
    with tarfile.open(folder / "sample" / "sample-000000.tar") as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}
    videos = sorted((content for name, content in found.items() if name.endswith(".mp4")), key=len)[-8:]
    source = folder / "source"
    source.mkdir()
    for shard in range(SHARDS):
        with tarfile.open(source / f"many-{shard:06d}.tar", "w") as tar:
            member = tarfile.TarInfo(f"video{shard:06d}.mp4")
            member.size = len(videos[shard % len(videos)])
            tar.addfile(member, io.BytesIO(videos[shard % len(videos)]))
    rows = "".join(f"video{shard:06d},{'one' if shard % 2 else 'two'}\n" for shard in range(SHARDS))
    (source / "labels.csv").write_text(f"video_id,labels\n{rows}")
    return source


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    lake = (tmp_path_factory.mktemp("undisturbed") / "lake").as_uri()
    do(small_range(source, lake, preview=False, canary=False), "undisturbed")
    return content(lake)


def content(lake: str) -> dict[str, bytes]:
    """Manifests of raw shards and clips, and all parts; those of records name the lake that they lie in."""
    store = Store(lake)
    wanted = ("raw/", "clips/", "features/")
    keys = [item.key for item in store.list() if item.key.startswith(wanted) and "receipt" not in item.key]
    keys = [key for key in keys if "/_index" not in key]
    return {key: b"" if key.startswith("features/") and "/_manifests/" in key else store.get(key) for key in keys}


def asked_of(spec: NightlySpec | BackfillSpec) -> dict[str, object]:
    fixed = {"pipeline", "where", *(["retry_rejects"] if isinstance(spec, NightlySpec) else [])}
    return spec.model_dump(exclude=fixed)


def records(lake: str) -> int:
    """Count the shards whose records are committed."""
    store = Store(lake, create=True)
    return sum("/_manifests/" in item.key for item in store.list("features"))


def wait(lab: AirflowLab, dag: str, run: str, seconds: float = 1500) -> str:
    give_up = time.monotonic() + seconds
    while (state := lab.api.run_state(dag, run)) not in ENDED:
        assert time.monotonic() < give_up, (state, lab.api.task_states(dag, run))
        lab.look()
        time.sleep(1)
    return state


def cuts(lab: AirflowLab, *runs: str) -> Counter[str]:
    """Count how often each video was cut, by the logs of all tries of all tasks."""
    found: Counter[str] = Counter()
    for log in (lab.folder / "airflow" / "logs").rglob("*.log"):
        if any(run in str(log) for run in runs):
            found.update(re.findall(r"(video\d{6}): (?:\d+ clips|refused)", log.read_text()))
    return found


def test_a_backfill_whose_scheduler_is_killed_and_that_is_launched_again_leaves_what_an_undisturbed_one_does(
    lab: AirflowLab, source: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    lake = (tmp_path / "lake").as_uri()
    asked = asked_of(small_range(source, lake, preview=False, min_batches=16))
    lab.api.trigger("backfill_shards", asked, "killed")
    give_up = time.monotonic() + 600
    while records(lake) < SHARDS // 3:
        assert time.monotonic() < give_up, lab.api.task_states("backfill_shards", "killed")
        time.sleep(0.5)
    os.kill(lab.running["scheduler"].pid, signal.SIGKILL)
    lab.running["scheduler"].wait()
    done = records(lake)
    assert done < SHARDS, "it was killed in the middle"
    lab.api._send("PATCH", "/api/v2/dags/backfill_shards/dagRuns/killed", {"state": "failed"})
    lab.look()
    lab.api.trigger("backfill_shards", asked, "relaunched")
    assert wait(lab, "backfill_shards", "relaunched") == "success"
    assert content(lake) == undisturbed
    repeated = sum(count - 1 for count in cuts(lab, "killed", "relaunched").values())
    assert set(cuts(lab, "killed", "relaunched")) == {f"video{shard:06d}" for shard in range(SHARDS)}
    print(f"killed at {done} of {SHARDS} shards, {repeated} were cut twice")
    assert repeated <= AT_ONCE * -(-SHARDS // 16)


def test_beside_a_night_on_an_overlapping_range_each_shard_has_one_revision_and_the_same_bytes(
    lab: AirflowLab, source: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    lake = (tmp_path / "lake").as_uri()
    backfill = small_range(source, lake, shards="000000..000149", preview=False, canary=False, min_batches=8)
    night = small(source, lake, shards="000050..000199", min_batches=8)
    lab.api.trigger("backfill_shards", asked_of(backfill), "beside")
    lab.api._send("PATCH", "/api/v2/dags/nightly_reprocess", {"is_paused": False})
    lab.api.trigger("nightly_reprocess", asked_of(night), "night")
    assert wait(lab, "backfill_shards", "beside") == "success"
    assert wait(lab, "nightly_reprocess", "night") == "success"
    assert content(lake) == undisturbed
    repeated = sum(count - 1 for count in cuts(lab, "beside", "night").values())
    print(f"{repeated} of 100 shards of both were cut twice")
    assert repeated <= 4 * -(-150 // 8)


def test_three_thousand_small_shards_are_few_tasks_and_little_scheduling(lab: AirflowLab, tmp_path: Path) -> None:
    source, lake = tmp_path / "source", (tmp_path / "lake").as_uri()
    source.mkdir()
    for shard in range(MANY):
        (source / f"many-{shard:06d}.tar").write_bytes(b"%06d" % shard * 100)
    (source / "labels.csv").write_text("video_id,labels\nsomebody,a\n")
    started = time.monotonic()
    asked = asked_of(small_range(source, lake, preview=False, canary=False))
    lab.api.trigger("backfill_stubbed", asked, "many")
    assert wait(lab, "backfill_stubbed", "many") == "success"
    seconds = time.monotonic() - started
    tasks = lab.api.task_states("backfill_stubbed", "many")
    print(f"{MANY} shards: {len(tasks)} task instances in {seconds:.0f} s")
    assert len(tasks) <= 60
    assert seconds < 180
