"""What a night or a backfill was planned to take is written down as the sum of its shards."""

from __future__ import annotations

import pytest

from shardmill.core.estimates import Load
from shardmill.core.forecast import forecast_shards, planned_work
from shardmill.core.report import Found
from shardmill.core.report_counts import why_no_shard
from shardmill.core.side_costs import STORAGE
from shardmill.core.work_rows import done_of, work_table
from shardmill.specs.manifest import SourceObject
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


def run(**asked):
    return RunSpec(run="r", started="2026-11-22T00:00:00+00:00", asked=BackfillSpec(**asked))


def forecast(*shards):
    return tuple(forecast_shards(Load(BackfillSpec(), shards, {}, RATES), PRICES, cores=2))


def test_what_is_planned_of_shards_is_the_sum_of_each_and_a_missing_price_stays_missing():
    one, both = (planned_work(forecast(*shards), 2, PRICES) for shards in ([shard(1)], [shard(1), shard(2)]))
    assert both.hours == pytest.approx((2 * one.hours[0], 2 * one.hours[1]))
    assert both.usd == pytest.approx((2 * one.usd[0], 2 * one.usd[1]))
    assert [cost.what for cost in both.costs] == [STORAGE, "requests that write", "requests that read"]
    writes, reads = both.costs[1:]
    assert writes.amount == pytest.approx((2 * one.costs[1].amount[0], 2 * one.costs[1].amount[1]))
    assert reads.usd is None and reads.unknown == ("get_thousand",)
    assert planned_work((), 2, PRICES) is None


def test_a_backfill_that_was_only_previewed_took_no_time_and_stored_nothing():
    shards = (shard(1), shard(2))
    plan = RunPlan(shards=shards, work=planned_work(forecast(*shards), 2, PRICES), in_range=2)
    rows = {
        preview: {row.what: row for row in work_table(Found(run(preview=preview), plan=plan), 90.0).rows}
        for preview in (True, False)
    }
    for preview, took in ((True, None), (False, 90 / 3600)):
        assert rows[preview]["from start to report"].hours == took
        assert (rows[preview][STORAGE].usd is None) == preview
        assert (rows[preview]["split"].work.planned, rows[preview]["split"].work.done) == (2, 0)
    assert done_of(Found(run(), plan=plan)) == (0, 2)


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
