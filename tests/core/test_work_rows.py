"""What a night or a backfill was planned to take is written down as the sum of its shards."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shardmill.core.estimates import Load
from shardmill.core.forecast import forecast_shards, planned_work
from shardmill.core.report import Found
from shardmill.core.report_counts import why_no_shard
from shardmill.core.shard_states import index_row
from shardmill.core.side_costs import STORAGE
from shardmill.core.work_rows import done_of, work_table
from shardmill.specs.manifest import Manifest, SourceObject
from shardmill.specs.prices import Prices, Rates
from shardmill.specs.run import PlannedShard, RunPlan, RunSpec
from shardmill.specs.shard_runs import BackfillSpec

RATES = Rates(split_core_seconds_mb=(1.0, 1.5), describe_core_seconds_mb=(0.2, 0.5), source_mbit_s=(8.0, 8.0))
PRICES = Prices(
    region="us-east-1",
    as_of="2026-11",
    source="a test",
    instance_hour={},
    emr_hour={},
    storage_gib_month=1.0,
    put_thousand=1.0,
)
TODO = dict.fromkeys(("raw", "clips", "features"), "new")


def shard(number, todo=None):
    source = SourceObject(uri=f"s3://b/x-{number:06d}.tar", size=100_000_000, version="v")
    return PlannedShard(shard=number, source=source, todo=TODO if todo is None else todo)


def manifest(stage, source, revision):
    values = {"stage": stage, "dataset": "d", "shard": 1, "recipe_hash": "0123456789ab", "recipe": {}, "parts": ()}
    return Manifest(**values, source=source, revision=revision, samples_in=0)


def row(number, seconds):
    clips = manifest("clips", shard(number).source, 0)
    return replace(index_row(clips, "e", "c" * 64), shard=number, seconds=seconds, bytes=1_000_000)


def run(**asked):
    return RunSpec(run="r", started="2026-11-22T00:00:00+00:00", asked=BackfillSpec(**asked))


def work_of(*shards, rows=None, prices=PRICES):
    load = Load(BackfillSpec(), shards, rows or {}, RATES)
    return planned_work(forecast_shards(load, prices, cores=2), load, 2, prices)


def test_what_is_planned_of_shards_is_the_sum_of_each_and_a_missing_price_stays_missing():
    one, both = (work_of(*shards) for shards in ([shard(1)], [shard(1), shard(2)]))
    assert both.hours == pytest.approx((2 * one.hours[0], 2 * one.hours[1]))
    assert both.usd == pytest.approx((2 * one.usd[0], 2 * one.usd[1]))
    assert [cost.what for cost in both.costs] == [STORAGE, "requests that write", "requests that read"]
    writes, reads = both.costs[1:]
    assert writes.amount == pytest.approx((2 * one.costs[1].amount[0], 2 * one.costs[1].amount[1]))
    assert reads.usd is None and reads.unknown == ("get_thousand",)
    assert work_of() is None


def test_what_has_no_price_at_all_has_no_sum_rather_than_one_of_nothing():
    without = PRICES.model_copy(update={"storage_gib_month": None, "put_thousand": None})
    work = work_of(shard(1), prices=without)
    assert work.usd is None
    assert work.unknown == ("storage_gib_month", "put_thousand", "get_thousand")
    assert "an unknown number of USD" in work.summary and "less than" not in work.summary
    plan = RunPlan(shards=(shard(1),), work=work)
    assert work_table(Found(run(), plan=plan), None).total.planned_usd is None
    assert work_of(shard(1)).usd is not None, "as far as prices are known"


def test_what_the_sum_rests_on_is_said_of_all_shards_and_not_of_the_first():
    # The first is cut already, at 8 Mbit/s, and the third at 4; the second is to be cut.
    retried, fresh, records = shard(1), shard(2), shard(3, {"features": "new"})
    rows = {number: row(number, seconds) for number, seconds in ((1, 100.0), (3, 200.0))}
    work = work_of(retried, fresh, records, rows=rows)
    alone = work_of(retried, rows={1: rows[1]})
    said = {cost.what: cost.rests_on for cost in work.costs}
    assert said[STORAGE] == "as 2 shards are cut already: 4 to 8 Mbit/s"
    assert {cost.what: cost.rests_on for cost in alone.costs}[STORAGE] == "as 1 shard is cut already: 8 Mbit/s"


def test_a_backfill_that_was_only_previewed_took_no_time_and_stored_nothing():
    shards = (shard(1), shard(2))
    plan = RunPlan(shards=shards, work=work_of(*shards), in_range=2)
    rows = {
        preview: {row.what: row for row in work_table(Found(run(preview=preview), plan=plan), 90.0).rows}
        for preview in (True, False)
    }
    for preview, took in ((True, None), (False, 90 / 3600)):
        assert rows[preview]["from start to report"].hours == took
        assert (rows[preview][STORAGE].usd is None) == preview
        assert (rows[preview]["split"].work.planned, rows[preview]["split"].work.done) == (2, 0)
    assert done_of(Found(run(), plan=plan)) == (0, 2)


def test_clips_whose_rejects_are_tried_again_are_done_only_by_a_later_revision():
    retried = shard(1).model_copy(update={"retry_of": 0})
    plan = RunPlan(shards=(retried,), work=work_of(retried), in_range=1)

    def found(revision):
        clips = manifest("clips", retried.source, revision)
        records = manifest("features", SourceObject(uri="c", size=1, version="c" * 64), 0)
        manifests = {"clips": {1: clips}, "features": {1: records}}
        return Found(run(), plan=plan, manifests=manifests, sha256={"clips": {1: "c" * 64}})

    for revision, done in ((0, 0), (1, 1)):
        rows = {row.what: row.work for row in work_table(found(revision), None).rows}
        assert (rows["split"].done, rows["features"].done) == (done, done)
        assert done_of(found(revision)) == (done, 1)
        assert found(revision).is_done(shard(1), "clips"), "no retry is asked for"


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (RunPlan(shards=(shard(1),)), ""),
        (RunPlan(shards=(), in_range=1), "Nothing was to be done. The one shard of the range is up to date."),
        (RunPlan(shards=(), in_range=9), "Nothing was to be done. All 9 shards of the range are up to date."),
        (
            RunPlan(shards=(), in_range=9, left=("left: 1 shard",)),
            "No shard was taken, though some are due: left: 1 sh",
        ),
        (RunPlan(shards=(), notes=("raw", "2026-01-05: none")), "Nothing was to be done: 2026-01-05: none."),
        (RunPlan(shards=()), "Nothing was to be done."),
    ],
)
def test_a_run_without_a_shard_says_why(plan, said):
    assert why_no_shard(plan).startswith(said) and bool(why_no_shard(plan)) == bool(said)


def test_a_plan_of_an_older_version_has_no_table():
    assert work_table(Found(run(), plan=RunPlan(shards=(shard(1),))), 1.0) is None
