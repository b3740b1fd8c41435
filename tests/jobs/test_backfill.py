"""Backfills preview, begin with a canary, and never do a shard twice."""

from __future__ import annotations

import json
import tarfile

import pytest
from jobs.night_lab import ANYWHERE, bench_plan, do, make_source, no_time, small, small_range

from shardmill import stages
from shardmill.adapters.lake import latest_revision
from shardmill.adapters.store import Store
from shardmill.core.canary import CanaryError
from shardmill.core.costs import BudgetError
from shardmill.core.labels import LabelTable
from shardmill.jobs.fly_canary import fly_canary, judge_canary
from shardmill.jobs.plan import done_line, plan_run
from shardmill.jobs.report import write_report
from shardmill.specs.canary import CanaryFound
from shardmill.specs.shard_runs import BackfillSpec


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_source(tmp_path_factory.mktemp("backfills"))


@pytest.fixture
def lake(tmp_path):
    return (tmp_path / "lake").as_uri()


def plan(asked, run):
    planned = plan_run(asked, run, ANYWHERE)
    return planned, stages.open_run(planned.spec_uri, lambda connection: ANYWHERE)


def content(lake):
    """Every committed object, by key; receipts and records of runs are not."""
    store = Store(lake)
    stages = ("raw/", "clips/", "features/")
    return {
        item.key: store.get(item.key)
        for item in store.list()
        if item.key.startswith(stages) and "receipt" not in item.key and "/_index" not in item.key
    }


def test_a_preview_says_shards_bytes_hours_and_usd_and_begins_nothing(source, lake):
    assert BackfillSpec().preview, "a form that is sent as it is begins nothing"
    planned, opened = plan(small_range(source, lake, shards="000000..000002,000005"), "r")
    assert list(planned.batches) == []
    line = planned.plan.notes[-1]
    assert line.startswith("to do, of 4 shards of the range: 4 shards, ")
    for part in (" at the source, ", " hours, ", " USD for storage, requests and traffic", "not counted as a cost"):
        assert part in line, line
    page = Store(lake).get(write_report(opened.lake, opened.run, ()).removeprefix(f"{lake}/")).decode()
    assert "Planned only: nothing was begun" in page and "Planned, and what happened" in page
    assert opened.plan.work.summary in page
    assert content(lake) == {}
    assert done_line(opened.lake, opened.run).startswith("0 of 4 shards have records")


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({}, ["what it costs is not known: no prices", "not known: no prices</dd>", "an unknown number of USD"]),
        ({"storage_gib_month": 1000.0}, ["USD expected at most, as far as prices are known"]),
    ],
)
def test_a_preview_without_prices_says_so_and_names_no_sum(source, lake, tmp_path, known, said):
    values = {"region": "r", "as_of": "2026-11", "source": "a test", "instance_hour": {}, "emr_hour": {}}
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({**values, **known}))
    _, opened = plan(small_range(source, lake, shards="000000", prices=prices.as_uri()), "r")
    page = page_of(opened)
    assert "Planned only" in page
    for words in said:
        assert words in page, words
    assert known or not any(words in page for words in ("0.00 USD", ">0.00<", "less than 0.01 USD"))


def test_the_canary_comes_before_the_batches_and_is_in_none_of_them(source, lake):
    asked = small_range(source, lake, shards="000001..000004", preview=False, min_batches=2)
    planned, opened = plan(asked, "r")
    assert sorted(shard for batch in planned.batches for shard in batch) == [2, 3, 4]
    assert len(planned.batches) >= 2
    found = fly_canary(opened.lake, opened.run, opened.plan, lambda shard: stages.through(opened, [shard], print))
    assert (found.shard, found.samples, found.rejects) == (1, 2, 0)
    assert found.seconds > 0 and found.stored == sum(
        len(data) for key, data in content(lake).items() if "/_manifests/" not in key
    )
    assert "is as planned: time " in judge_canary(opened.lake, asked, opened.plan.unfinished[0], found, ANYWHERE)
    again = fly_canary(opened.lake, opened.run, opened.plan, lambda shard: pytest.fail("it has flown"))
    assert again == found
    whole, _ = plan(asked.model_copy(update={"canary": False}), "whole")
    assert sorted(shard for batch in whole.batches for shard in batch) == [2, 3, 4], "the canary's shard is done"


def test_a_canary_of_which_too_much_is_refused_stops_the_backfill_with_the_comparison(source, lake):
    asked = small_range(source, lake, shards="000001..000004", preview=False)
    _, opened = plan(asked, "r")
    with no_time():
        found = fly_canary(opened.lake, opened.run, opened.plan, lambda shard: stages.through(opened, [shard], print))
    with pytest.raises(CanaryError, match=r"shard 000001 is not as planned.*rejects 2 of 2 \(100%\), allowed 10%"):
        judge_canary(opened.lake, asked, opened.plan.unfinished[0], found, ANYWHERE)


@pytest.mark.parametrize("allowed", [0.1, 1.0])
def test_a_canary_of_which_nothing_is_published_is_compared_with_the_plan_too(source, lake, allowed):
    share = BackfillSpec().max_reject_share
    asked = small_range(
        source, lake, shards="000001..000004", preview=False, max_reject_share=share, canary_reject_share=allowed
    )
    _, opened = plan(asked, "r")
    with no_time():
        found = fly_canary(opened.lake, opened.run, opened.plan, lambda shard: stages.through(opened, [shard], print))
    assert (found.samples, found.rejects, found.stored) == (2, 2, 0)
    wrong = r"time \d+ s, planned .*rejects 2 of 2 \(100%\), allowed .*max_reject_share: shard 000001: 2 of 2 samples"
    with pytest.raises(CanaryError, match=f"shard 000001 is not as planned.*All of it: {wrong}"):
        judge_canary(opened.lake, asked, opened.plan.unfinished[0], found, ANYWHERE)
    again = fly_canary(opened.lake, opened.run, opened.plan, lambda shard: stages.through(opened, [shard], print))
    assert (again.refused, again.rejects) == ("", 0), "the cause is mended and the task cleared"


def test_time_is_planned_on_no_more_cores_than_the_shard_has_videos(source, lake, monkeypatch):
    monkeypatch.setattr("shardmill.jobs.fly_canary.usable_cores", lambda: 64)
    _, opened = plan(small_range(source, lake, shards="000001..000002", preview=False), "r")
    found = fly_canary(opened.lake, opened.run, opened.plan, lambda shard: stages.through(opened, [shard], print))
    assert (found.samples, found.cores) == (2, 2)
    assert CanaryFound.from_json(opened.lake.get("runs/r/canary.json")) == found


def test_the_same_range_again_does_no_shard_twice_and_a_wider_one_only_what_is_missing(source, lake):
    do(small_range(source, lake, shards="000000..000001", preview=False, canary=False), "first")
    before = content(lake)
    planned, opened = plan(small_range(source, lake, shards="000000..000001", preview=False), "again")
    assert (list(planned.batches), planned.plan.shards) == ([], ())
    assert planned.plan.notes[-1] == "nothing to do: all 2 shards of the range are done"
    assert done_line(opened.lake, opened.run) == "no shard was due"
    wider = do(small_range(source, lake, shards="000000..000002", preview=False, canary=False), "wider")
    assert wider.plan.numbers == (2,)
    assert done_line(wider.lake, wider.run).startswith("1 of 1 shards have records: 2 videos")
    after = content(lake)
    assert {key: after[key] for key in before} == before


def test_a_cleared_batch_redoes_only_what_is_missing_of_it(source, lake):
    planned, opened = plan(small_range(source, lake, shards="000000..000002", preview=False, canary=False), "r")
    stages.through(opened, [1], lambda line: None)
    (batch,) = [[shard for batch in planned.batches for shard in batch]]
    assert stages.through(opened, batch, lambda line: None) == "did 2 of 3 shards"
    before = content(lake)
    assert stages.through(opened, batch, lambda line: None) == "did 0 of 3 shards: nothing to do, all present"
    assert content(lake) == before


def test_rejects_of_a_range_are_tried_again_only_where_that_is_asked_for(source, lake):
    asked = small_range(source, lake, shards="000003..000004", preview=False, canary=False)
    with no_time():
        do(asked.model_copy(update={"shards": "000003"}), "slow")
    assert plan(asked, "r")[0].plan.numbers == (4,)
    retried = do(asked.model_copy(update={"retry_rejects": True}), "retry")
    assert retried.plan.numbers == (3, 4)
    assert retried.plan.shards[0].todo["clips"] == "rejects of revision 0 may pass now"
    assert plan(asked.model_copy(update={"retry_rejects": True}), "next")[0].plan.numbers == ()


def test_a_retry_that_was_only_planned_has_done_nothing_yet_and_counts_when_it_has(source, lake):
    asked = small_range(source, lake, shards="000003..000004", canary=False, preview=False)
    with tarfile.open(source / "sample-000003.tar") as tar:
        large = max(member.size for member in tar)
    with no_time(large):
        do(asked.model_copy(update={"shards": "000003"}), "slow")
    assert records_of(lake) == 1, "of the video that passed"
    retry = {"retry_rejects": True, "shards": "000003"}
    _, preview = plan(asked.model_copy(update={**retry, "preview": True}), "preview")
    _, opened = plan(asked.model_copy(update=retry), "retry")
    for before in (preview, opened):
        assert done_line(before.lake, before.run).startswith("0 of 1 shards have records: 0 videos, 0 clips")
    assert '<div class="number">0 of 1</div>' in page_of(opened)
    stages.through(opened, [3], lambda line: None)
    assert done_line(opened.lake, opened.run).startswith("1 of 1 shards have records: 2 videos")
    assert '<div class="number">1 of 1</div>' in page_of(opened)


def page_of(opened):
    write_report(opened.lake, opened.run, ())
    return opened.lake.get(f"runs/{opened.run.run}/report.html").decode()


def records_of(lake):
    return sum("features/" in key and "/_manifests/" in key for key in content(lake))


def test_a_retry_over_a_range_cuts_the_refused_videos_alone_and_leaves_the_others_as_they_are(source, lake):
    asked = small_range(source, lake, shards="000003..000004", preview=False, canary=False)
    with tarfile.open(source / "sample-000003.tar") as tar:
        large, other = sorted((one for one in tar if one.name.endswith(".mp4")), key=lambda one: -one.size)
    assert large.size > other.size
    with no_time(large.size):
        do(asked.model_copy(update={"shards": "000003"}), "slow")
    do(asked.model_copy(update={"shards": "000004"}), "good")
    before, first = content(lake), clips_of(lake, asked, 3)
    refused, kept = (member.name.partition(".")[0] for member in (large, other))
    assert [reject.key for reject in first.rejects] == [refused] and [video.key for video in first.videos] == [kept]
    lines = []
    planned, opened = plan(asked.model_copy(update={"retry_rejects": True}), "retry")
    assert [list(batch) for batch in planned.batches] == [[3]]
    stages.through(opened, [3], lines.append)
    second = clips_of(lake, asked, 3)
    assert (second.revision, second.rejects) == (1, ())
    assert {video.key for video in second.videos} == {refused, kept}
    assert {part.name for part in first.parts} < {part.name for part in second.parts}, "what was cut stays where it is"
    assert not any(line.startswith(f"{kept}:") for line in lines) and any(refused in line for line in lines)
    after = content(lake)
    assert {key: after[key] for key in before} == before, "nothing is written over"


def clips_of(lake, asked, shard):
    return latest_revision(Store(lake), "clips", asked.dataset, asked.split_recipe.hash, shard).manifest


def test_a_backfill_and_a_night_on_the_same_shards_leave_one_revision_of_each(source, lake):
    night, of_night = plan(small(source, lake, shards="000000..000003"), "night")
    backfill, of_backfill = plan(small_range(source, lake, shards="000002..000005", preview=False), "backfill")
    assert night.plan.numbers == (0, 1, 2, 3) and backfill.plan.numbers == (2, 3, 4, 5)
    stages.through(of_backfill, [2, 3, 4, 5], lambda line: None)
    assert stages.through(of_night, [0, 1, 2, 3], lambda line: None) == "did 2 of 4 shards"
    manifests = [key for key in content(lake) if "/_manifests/" in key]
    assert len(manifests) == 6 * 3 and all(key.endswith("r000.json") for key in manifests)


def test_more_usd_than_the_limit_are_refused_with_the_forecast(source, lake):
    with pytest.raises(BudgetError, match=r"max_usd: 10 shards, .* allowed are 0\.00 USD"):
        plan_run(small_range(source, lake, max_usd=1e-9), "r", ANYWHERE)


@pytest.mark.parametrize("count", [300, pytest.param(3000, marks=pytest.mark.slow)])
def test_thousands_of_done_shards_map_no_task_and_as_many_to_do_few(tmp_path, count):
    made = bench_plan()
    source, lake = f"file://{tmp_path}/source", f"file://{tmp_path}/lake"
    made.put_all(source, {f"bench-{shard:06d}.tar": b"%d" % shard * 1000 for shard in range(count)})
    table = "video_id,labels\nsomebody,a\n"
    made.put_all(source, {"labels.csv": table.encode()})
    values = {"source": source, "lake": lake, "labels": f"{source}/labels.csv", "dataset": "bench", "preview": False}
    asked = BackfillSpec(**values)
    to_do, _ = plan(asked, "before")
    assert 16 <= len(to_do.batches) <= 40
    assert sum(len(batch) for batch in to_do.batches) == count - 1, "the canary is in none"
    made.FEATURES = asked.feature_recipe(LabelTable.from_csv(table).digest)
    made.put_all(lake, made.manifests_of(made.list_source(source), lake))
    done, _ = plan(asked, "after")
    assert (list(done.batches), done.plan.shards) == ([], ())
    assert done.plan.notes[-1] == f"nothing to do: all {count:,} shards of the range are done"
