"""The first shard of a backfill is held against the plan by time, rejects and USD."""

from __future__ import annotations

import pytest

from shardmill.core.canary import START_SECONDS, CanaryError, Limits, check_canary, compare
from shardmill.core.estimates import Load
from shardmill.core.forecast import ShardForecast, forecast_shards
from shardmill.specs.canary import CanaryFound
from shardmill.specs.manifest import SourceObject
from shardmill.specs.prices import Prices, Rates
from shardmill.specs.run import PlannedShard
from shardmill.specs.shard_runs import BackfillSpec

RATES = Rates(split_core_seconds_mb=(1.0, 1.5), describe_core_seconds_mb=(0.2, 0.5), source_mbit_s=(8.0, 8.0))
PRICES = Prices(
    region="us-east-1",
    as_of="2026-11",
    source="a test",
    instance_hour={},
    emr_hour={},
    storage_gib_month=1.0,
    put_thousand=0.0,
    get_thousand=0.0,
)
LIMITS = Limits(factor=2.0, reject_share=0.1)
SOURCE = SourceObject(uri="s3://b/x-000007.tar", size=100_000_000, version="v")
PLANNED = PlannedShard(shard=7, source=SOURCE, todo=dict.fromkeys(("raw", "clips", "features"), "new"))


def plan(prices: Prices = PRICES) -> ShardForecast:
    (found,) = forecast_shards(Load(BackfillSpec(), (PLANNED,), {}, RATES), prices, cores=2)
    return found


def flown(**changed) -> CanaryFound:
    values = {"shard": 7, "seconds": 100.0, "cores": 2, "samples": 100, "rejects": 5, "stored": 4_000_000}
    return CanaryFound(**(values | changed))


def test_a_canary_as_planned_lets_the_others_begin_and_says_how_it_compares():
    text = check_canary(7, compare(plan(), flown(), LIMITS))
    assert text.startswith(
        "shard 000007 is as planned: time 100 s, planned 60.0 to 100.0 s on 2 cores, allowed 260 s; "
    )
    assert "rejects 5 of 100 (5%), allowed 10%; USD 0.0037" in text


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"seconds": 261.0},
            r"not begun\. time 261 s, planned 60\.0 to 100\.0 s on 2 cores, allowed 260 s\. All",
        ),
        ({"rejects": 11}, r"not begun\. rejects 11 of 100 \(11%\), allowed 10%\. All of it: time 100 s"),
        (
            {"stored": 4_000_000_000},
            r"not begun\. USD 3\.7\d*, planned 0\.0\d+ to 0\.0\d+, allowed 0\.0\d+\. All",
        ),
    ],
)
def test_whatever_is_too_far_from_the_plan_stops_the_backfill_with_the_comparison(changed, message):
    with pytest.raises(CanaryError, match=message):
        check_canary(7, compare(plan(), flown(**changed), LIMITS))


def test_what_is_just_allowed_passes_and_a_small_shard_has_time_to_start():
    allowed = LIMITS.factor * 100 + START_SECONDS
    assert check_canary(7, compare(plan(), flown(seconds=allowed, rejects=10), LIMITS))
    assert check_canary(7, compare(plan(), flown(samples=0, rejects=0), LIMITS))


def test_without_prices_usd_are_not_compared_and_that_is_said():
    unknown = PRICES.model_copy(update={"storage_gib_month": None})
    text = check_canary(7, compare(plan(unknown), flown(stored=10**12), LIMITS))
    assert "USD not compared, no price known for storage_gib_month" in text


def test_what_a_canary_took_comes_back_as_it_was_written():
    assert CanaryFound.from_json(flown().to_json()) == flown()
