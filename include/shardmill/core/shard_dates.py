"""Give each shard a date, so that a range of dates is a range of shards: what Airflow backfills by date."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from shardmill.core.layout import shard_name
from shardmill.core.planning import BadRequestError
from shardmill.specs.mistakes import MistakesError, read_spec
from shardmill.specs.shard_runs import BackfillSpec


def shards_on(day: date, first: date, each: int) -> range:
    """Give the numbers that fall on a date: the first date has 0 to ``each - 1``, the next one those behind them.

    Args:
        each: shards of a date, at least 1.

    Returns:
        Empty for a date before the first one.
    """
    begin = (day - first).days * each
    return range(begin, begin + each) if begin >= 0 else range(0)


def shards_of_date(asked: BackfillSpec) -> range | None:
    """Give the numbers that fall on the date that is asked for; None where no date is."""
    return _numbers(asked) if asked.date else None


def date_line(asked: BackfillSpec, shards: Mapping[int, object]) -> str:
    """Say which shards of the range fall on the date that is asked for; empty where no date is."""
    if not asked.date:
        return ""
    wanted = _numbers(asked)
    if not wanted:
        return f"{asked.date}: no shard falls on it, the first date is {asked.first_date}"
    span = f"shards {shard_name(wanted[0])} to {shard_name(wanted[-1])} fall on it"
    return f"{asked.date}: {span}, {len(shards):,} of them {'is' if len(shards) == 1 else 'are'} there"


def at_date(asked: BackfillSpec, day: str) -> BackfillSpec:
    """Ask for the shards of a date only, as Airflow's backfill by date does for one date after the other.

    Args:
        day: ISO 8601; empty changes nothing.

    Raises:
        BadRequestError: no date to count from, or the form asks for another date.
    """
    if not day or day == asked.date:
        return asked
    if asked.date:
        raise BadRequestError(f"date: {asked.date} is asked for in a run for {day}: leave it out")
    try:
        return read_spec(BackfillSpec, asked.model_dump() | {"date": day})
    except MistakesError as error:
        raise BadRequestError(str(error)) from error


def _numbers(asked: BackfillSpec) -> range:
    day, first = date.fromisoformat(asked.date), date.fromisoformat(asked.first_date)
    return shards_on(day, first, asked.shards_per_date)
