"""Every shard falls on one date, and a date is asked for as Airflow's backfill does."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardmill.core.planning import BadRequestError, choose_shards
from shardmill.core.shard_dates import at_date, date_line, shards_of_date, shards_on
from shardmill.specs.manifest import SourceObject
from shardmill.specs.shard_runs import BackfillSpec

FIRST = date(2026, 1, 1)


def asked(**values):
    return BackfillSpec(**{"first_date": "2026-01-01", "shards_per_date": 4} | values)


@given(st.integers(0, 999_999), st.integers(1, 5000))
def test_every_shard_falls_on_one_date_and_a_range_of_dates_is_a_range_of_shards(shard, each):
    days = [FIRST + timedelta(days=shard // each + more) for more in (-1, 0, 1)]
    before, on, after = (shards_on(day, FIRST, each) for day in days)
    assert shard in on and shard not in before and shard not in after
    assert len(on) == each and after.start == on.stop
    assert (before.stop == on.start) if before else on.start == 0


def test_a_date_before_the_first_one_has_no_shard():
    assert not shards_on(date(2025, 12, 31), FIRST, 4)
    assert date_line(asked(date="2025-12-31"), {}) == ("2025-12-31: no shard falls on it, the first date is 2026-01-01")


def test_of_the_range_only_what_falls_on_the_date_is_taken_and_must_be_there():
    source = SourceObject(uri="s3://b/x.tar", size=1, version="v")
    there = dict.fromkeys((0, 3, 5, 7, 8), source)

    def chosen(shards, **values):
        return list(choose_shards(shards, there, "s3://b", shards_of_date(asked(**values))))

    assert chosen("all", date="2026-01-02") == [5, 7]
    assert chosen("all") == [0, 3, 5, 7, 8], "no date is asked for"
    assert chosen("000001..000003,000005", date="2026-01-02") == [5], "what is absent falls on another date"
    assert chosen("all", date="2026-02-01") == chosen("000001", date="2026-02-01") == []
    with pytest.raises(BadRequestError, match=r"shards: 2 asked for by .*, 1 found, 1 absent at .*000004"):
        chosen("000003..000005", date="2026-01-02")
    said = date_line(asked(date="2026-01-02"), {5: "x"})
    assert said == "2026-01-02: shards 000004 to 000007 fall on it, 1 of them is there"


def test_a_run_for_a_date_asks_for_it_and_another_run_for_what_the_form_says():
    assert at_date(asked(), "2026-01-03").date == "2026-01-03"
    assert at_date(asked(), "") == asked()
    assert at_date(asked(date="2026-01-03"), "2026-01-03").date == "2026-01-03"


@pytest.mark.parametrize(
    ("spec", "day", "wrong"),
    [
        (BackfillSpec(), "2026-01-03", "first_date: expected the date that shard 000000 falls on"),
        (asked(date="2026-01-02"), "2026-01-03", "date: 2026-01-02 is asked for in a run for 2026-01-03"),
        (asked(), "3 January", "expected a date such as 2026-01-31, found '3 January'"),
    ],
)
def test_a_date_that_cannot_be_done_is_refused_by_name(spec, day, wrong):
    with pytest.raises(BadRequestError, match=wrong):
        at_date(spec, day)


@pytest.mark.parametrize("text", ["2026-1-3", "20260103", "2026-02-30", "x", "2026-01-03T00:00:00"])
def test_a_text_that_is_no_date_is_refused_by_the_form(text):
    with pytest.raises(ValueError, match="expected a date such as 2026-01-31"):
        asked(date=text)
