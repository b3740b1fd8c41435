"""Backfills under a real scheduler: it is killed, a night runs beside, thousands of shards are few tasks."""

from __future__ import annotations

import io
import os
import signal
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs.night_lab import bench_plan, do, small, small_range
from kills.airflow_lab import AirflowLab
from kills.shard_runs_lab import AT_ONCE, asked_of, content, cuts, reaching, records, shard_runs_lab, wait

from shardmill.core.labels import LabelTable
from shardmill.jobs.sample import make_sample
from shardmill.specs.shard_runs import BackfillSpec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
SHARDS, MANY = 200, 3000
TABLE = b"video_id,labels\nsomebody,a\n"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowLab]:
    with shard_runs_lab(tmp_path_factory.mktemp("backfills")) as started:
        yield started


@pytest.fixture(params=["disk", "s3"])
def lake(request: pytest.FixtureRequest, lab: AirflowLab, tmp_path: Path) -> Iterator[str]:
    """A lake of a test's own: on disk, and in the local S3."""
    if request.param == "disk":
        yield (tmp_path / "lake").as_uri()
        return
    with reaching(lab.cloud):
        yield f"s3://shardmill-lake/{tmp_path.name}"


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


def test_a_backfill_whose_scheduler_is_killed_and_that_is_launched_again_leaves_what_an_undisturbed_one_does(
    lab: AirflowLab, source: Path, undisturbed: dict[str, bytes], lake: str
) -> None:
    killed, relaunched = (f"{name}-{'s3' if lake.startswith('s3') else 'disk'}" for name in ("killed", "relaunched"))
    asked = asked_of(small_range(source, lake, preview=False, min_batches=16))
    lab.api.trigger("backfill_shards", asked, killed)
    give_up = time.monotonic() + 600
    while records(lake) < SHARDS // 3:
        assert time.monotonic() < give_up, lab.api.task_states("backfill_shards", killed)
        time.sleep(0.5)
    os.kill(lab.running["scheduler"].pid, signal.SIGKILL)
    lab.running["scheduler"].wait()
    done = records(lake)
    assert done < SHARDS, "it was killed in the middle"
    lab.api._send("PATCH", f"/api/v2/dags/backfill_shards/dagRuns/{killed}", {"state": "failed"})
    lab.look()
    lab.api.trigger("backfill_shards", asked, relaunched)
    assert wait(lab, "backfill_shards", relaunched) == "success"
    assert content(lake) == undisturbed
    repeated = sum(count - 1 for count in cuts(lab, killed, relaunched).values())
    assert set(cuts(lab, killed, relaunched)) == {f"video{shard:06d}" for shard in range(SHARDS)}
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
    bench_plan().put_all(source.as_uri(), many_shards())
    check_few_tasks(lab, small_range(source, lake, preview=False, canary=False), "many")


def test_in_s3_three_thousand_shards_to_do_are_few_tasks_and_three_thousand_done_ones_none(
    lab: AirflowLab, tmp_path: Path
) -> None:
    made, source, lake = bench_plan(), "s3://shardmill-source/bench", "s3://shardmill-lake/bench"
    values = {"source": source, "lake": lake, "labels": f"{source}/labels.csv", "dataset": "bench"}
    asked = BackfillSpec(**values, preview=False, canary=False)
    with reaching(lab.cloud):
        made.put_all(source, many_shards())
        check_few_tasks(lab, asked, "many-in-s3")
        made.FEATURES = asked.feature_recipe(LabelTable.from_csv(TABLE.decode()).digest)
        made.put_all(lake, made.manifests_of(made.list_source(source), lake))
    for run in ("done-without-an-index", "done"):
        started = time.monotonic()
        lab.api.trigger("backfill_shards", asked_of(asked), run)
        assert wait(lab, "backfill_shards", run) == "success"
        seconds = time.monotonic() - started
        print(f"{MANY} done shards, {run}: {seconds:.0f} s from trigger to end")
        assert not [task for task in lab.api.task_states("backfill_shards", run) if task.map_index >= 0]
        assert "all 3,000 shards of the range are done" in str(lab.api.xcom("backfill_shards", run, "plan", "summary"))
        # A run leaves an index; without one, nine thousand manifests are read, as fast as the local S3 gives them.
        assert seconds < (60 if run == "done" else 300)


def many_shards() -> dict[str, bytes]:
    return {**{f"bench-{shard:06d}.tar": b"%06d" % shard * 100 for shard in range(MANY)}, "labels.csv": TABLE}


def check_few_tasks(lab: AirflowLab, asked: BackfillSpec, run: str) -> None:
    started = time.monotonic()
    lab.api.trigger("backfill_stubbed", asked_of(asked), run)
    assert wait(lab, "backfill_stubbed", run) == "success"
    seconds = time.monotonic() - started
    tasks = lab.api.task_states("backfill_stubbed", run)
    print(f"{MANY} shards to do, {run}: {len(tasks)} task instances in {seconds:.0f} s")
    assert len(tasks) <= 60
    assert seconds < 180
