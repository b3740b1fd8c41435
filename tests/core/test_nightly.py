"""What a night takes, what waits, and when training may follow."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardmill.core.costs import BudgetError
from shardmill.core.estimates import Load
from shardmill.core.forecast import ShardForecast, check_prices_known, forecast_shards, total
from shardmill.core.freshness import Announced, find_fresh_shards, fresh_lines, shard_range, why_not_announced
from shardmill.core.nightly import Caps, Due, TooLargeError, check_none_above_caps, choose_night
from shardmill.core.shard_states import IndexRow, ShardState, ShardStates
from shardmill.specs.fresh import Fresh
from shardmill.specs.manifest import SourceObject
from shardmill.specs.prices import Prices, Rates
from shardmill.specs.run import PlannedShard
from shardmill.specs.shard_runs import NightlySpec
from shardmill.specs.value import parse_shard_range

RATES = Rates(split_core_seconds_mb=(1.0, 2.0), describe_core_seconds_mb=(0.5, 1.0), source_mbit_s=(8.0, 8.0))
PRICES = Prices(
    region="us-east-1",
    as_of="2026-11",
    source="a test",
    instance_hour={},
    emr_hour={},
    storage_gib_month=0.02,
    put_thousand=0.005,
    get_thousand=0.0004,
)


def planned(shard: int, megabytes: int = 1, todo: tuple[str, ...] = ("raw", "clips", "features")) -> PlannedShard:
    source = SourceObject(uri=f"s3://b/x-{shard:06d}.tar", size=megabytes * 1_000_000, version="v")
    return PlannedShard(shard=shard, source=source, todo=dict.fromkeys(todo, "new"))


def due(shard: int, modified: float = 0.0, hours: float = 1.0, usd: float = 0.1) -> Due:
    return Due(ShardForecast(planned(shard), (hours / 2, hours), (usd / 2, usd)), modified)


def test_the_oldest_come_first_and_shards_of_unknown_age_by_their_number():
    night = choose_night([due(1, 30.0), due(2, 10.0), due(3, 20.0)], Caps(2, 100))
    assert [one.shard for one in night.taken] == [2, 3]
    assert list(night.left) == [1]
    assert [one.shard for one in choose_night([due(3), due(1), due(2)], Caps(2, 100)).taken] == [1, 2]


@pytest.mark.parametrize(
    ("caps", "taken", "why"),
    [
        (Caps(2, 100), [0, 1], "waiting for another night, for max_shards = 2 is reached"),
        (Caps(9, 3), [0, 1, 2], "waiting for another night, for max_hours = 3 is reached"),
        (Caps(9, 100, 0.15), [0], "waiting for another night, for max_usd = 0.15 is reached"),
        (Caps(9, 100, 0.0), [0, 1, 2, 3, 4], ""),
    ],
)
def test_each_cap_holds_and_is_named(caps, taken, why):
    night = choose_night([due(shard) for shard in range(5)], caps)
    assert [one.shard for one in night.taken] == taken
    assert set(night.left.values()) == ({why} if why else set())


def test_a_shard_that_alone_is_more_than_a_cap_is_named_and_holds_up_nobody():
    night = choose_night([due(0, hours=9.0), due(1), due(2)], Caps(9, 3))
    assert [one.shard for one in night.taken] == [1, 2]
    assert night.left == {0: "alone more than max_hours = 3: raise it"}
    assert list(night.lines(9))[-1] == "left: 1 shard, alone more than max_hours = 3: raise it: 000000"


def test_shards_that_no_night_does_fail_the_count_by_the_fields_to_raise():
    night = choose_night([due(0, hours=9.0), due(1, usd=5.0), due(2, hours=9.0)], Caps(9, 3, 1.0))
    assert night.taken == ()
    assert next(night.lines(9)) == "nothing is done tonight"
    with pytest.raises(TooLargeError, match=r"^3 shards passed over.*max_hours = 3, max_usd = 1: 000000 000001 000002"):
        check_none_above_caps(night.above_caps)
    with pytest.raises(TooLargeError, match="raise max_hours, max_usd, or make them by a backfill"):
        check_none_above_caps(night.above_caps)
    check_none_above_caps(choose_night([due(0), due(1)], Caps(1, 3)).above_caps)


def test_shards_that_failed_come_last_and_are_given_up_after_three_nights_with_the_reason():
    failed = [replace(due(shard), failed=shard, why_failed="DamagedTarError: cut short") for shard in (1, 2, 3)]
    night = choose_night([*failed, due(7, 90.0), due(8, 80.0)], Caps(3, 100))
    assert [one.shard for one in night.taken] == [8, 7, 1], "though the failed ones are older"
    assert list(night.left_lines()) == [
        "left: 1 shard, waiting for another night, for max_shards = 3 is reached: 000002",
        "left: 1 shard, not tried again, for it failed in 3 nights: DamagedTarError: cut short: 000003",
    ]


def test_many_reasons_are_not_all_told():
    many = [replace(due(shard), failed=3, why_failed=str(shard)) for shard in range(25)]
    lines = list(choose_night(many, Caps(9, 9)).left_lines())
    assert (len(lines), lines[-1]) == (21, "left: 5 shards more, each for a reason of its own")


def test_nothing_due_is_said():
    assert list(choose_night([], Caps(1, 1)).lines(10)) == ["nothing is due: all 10 shards of the range are up to date"]


SHARDS = st.lists(
    st.tuples(st.integers(0, 999), st.floats(0, 1e9), st.floats(0.01, 10), st.floats(0, 2)),
    max_size=30,
    unique_by=lambda shard: shard[0],
)


@given(SHARDS, st.integers(1, 20), st.floats(0.1, 30), st.floats(0, 5))
def test_a_night_is_within_its_caps_loses_no_shard_and_lets_none_overtake_an_older_one(shards, most, hours, usd):
    caps = Caps(most, hours, usd)
    night = choose_night([due(*shard) for shard in shards], caps)
    whole = total(one.forecast for one in night.taken)
    assert not caps.above(len(night.taken), whole.hours[1] - 1e-9, whole.usd[1] - 1e-9)
    assert {one.shard for one in night.taken} | set(night.left) == {shard[0] for shard in shards}
    waiting = [shard for shard in shards if night.left.get(shard[0], "").startswith("waiting")]
    oldest = min(((shard[1], shard[0]) for shard in waiting), default=(float("inf"), 0))
    assert all((one.modified, one.shard) < oldest for one in night.taken)


def test_hours_count_cutting_and_describing_each_where_it_is_to_be_done():
    shards = (planned(0, 36), planned(1, 36, ("features",)), planned(2, 36, ()))
    both, records = forecast_shards(Load(NightlySpec(), shards, {}, RATES), PRICES, cores=2)
    assert both.hours == pytest.approx((0.0075, 0.015))
    assert records.hours == pytest.approx((0.0025, 0.005))
    assert total([both, records]).bytes == 72_000_000


def test_usd_grow_with_what_is_stored_and_asked_and_missing_prices_are_named_never_guessed():
    one, large = forecast_shards(Load(NightlySpec(), (planned(0), planned(1, 10_000)), {}, RATES), PRICES, cores=1)
    assert 0 < one.usd[0] <= one.usd[1] < large.usd[0]
    assert one.unknown == ()
    unknown = PRICES.model_copy(update={"storage_gib_month": None})
    (priceless,) = forecast_shards(Load(NightlySpec(), (planned(0),), {}, RATES), unknown, cores=1)
    assert priceless.unknown == ("storage_gib_month",)
    assert "no price known for storage_gib_month" in total([priceless]).line
    check_prices_known(priceless.unknown, 0.0)
    with pytest.raises(BudgetError, match="max_usd: no price known for storage_gib_month"):
        check_prices_known(priceless.unknown, 1.0)


def row(shard: int, digest: str) -> IndexRow:
    return IndexRow(shard, 0, "e", digest, "s3://b/x", 1, "v", False, 1, 1, 1, 1, 1, 1.0, 0, 0, 1)


def states(*, stale: tuple[int, ...] = (), digest: str = "m") -> ShardStates:
    def of(stage: str) -> dict[int, ShardState]:
        done = {shard: ShardState("done", "same", row(shard, digest)) for shard in range(5)}
        if stage == "raw":
            return done
        return done | {shard: ShardState("stale", "the source changed") for shard in stale}

    return ShardStates({"raw": of("raw"), "clips": of("clips"), "features": of("features")})


def test_fresh_are_the_shards_of_which_nothing_is_to_be_done_and_the_others_are_named_with_the_reason():
    fresh = find_fresh_shards(states(stale=(2,)), "x", "r")
    assert (fresh.count, fresh.shards) == (4, "000000..000001,000003..000004")
    assert fresh.missing == {2: "clips: the source changed, features: the source changed"}
    assert list(fresh_lines(fresh)) == [
        "4 of 5 shards are fresh",
        "missing: shard 000002: clips: the source changed, features: the source changed",
    ]
    assert Fresh.from_json(fresh.to_json()) == fresh


def test_training_follows_when_enough_is_fresh_and_something_is_new():
    some, whole = (find_fresh_shards(states(stale=stale), "x", "r") for stale in ((2, 3), ()))
    nothing, everything = Announced(), Announced(whole.digest, whole.records)
    assert why_not_announced(some, 1, nothing) == "2 shards are missing, and missing_ok allows 1"
    assert why_not_announced(some, 2, nothing) == ""
    assert why_not_announced(whole, 0, Announced(some.digest, some.records)) == ""
    assert why_not_announced(whole, 0, everything) == "nothing is new since training was called for last"
    made_anew = find_fresh_shards(states(digest="other"), "x", "r")
    assert why_not_announced(made_anew, 0, everything) == ""
    none = find_fresh_shards(states(stale=tuple(range(5))), "x", "r")
    assert why_not_announced(none, 9, nothing) == "no shard is fresh"


def test_no_training_is_called_for_where_shards_only_went_away():
    some, whole = (find_fresh_shards(states(stale=stale), "x", "r") for stale in ((2, 3), ()))
    everything = Announced(whole.digest, whole.records)
    assert why_not_announced(some, 2, everything) == "nothing is new since training was called for last"
    other = find_fresh_shards(states(stale=(2, 3), digest="other"), "x", "r")
    assert why_not_announced(other, 2, everything) == ""
    assert why_not_announced(some, 2, Announced(whole.digest)) == "", "what was announced cannot be read any more"
    assert why_not_announced(whole, 0, Announced(whole.digest)) == "nothing is new since training was called for last"


@given(st.sets(st.integers(0, 300), min_size=1))
def test_a_written_range_is_read_back_as_the_same_shards(shards):
    assert parse_shard_range(shard_range(sorted(shards))) == tuple(sorted(shards))
    assert shard_range([]) == ""
