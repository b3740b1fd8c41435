"""Looks at the dates of a request to backfill by date: of some that Airflow takes no run would begin, or other ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time
from typing import Any

from shardmill.specs.mistakes import Mistake

BOUNDS = ("from_date", "to_date")


def wrong_dates(asked: Mapping[str, Any], conf: Mapping[str, Any], now: datetime) -> Iterator[Mistake]:
    """Tell what is wrong with the dates of a request.

    Args:
        asked: the request, with both its bounds.
        conf: what each of its runs is to be triggered with.
        now: when it is asked for, with a time zone.

    Raises:
        ValueError, TypeError: a bound is no point in time: that is Airflow's to say.
    """
    if conf.get("date"):
        yield Mistake("date", "a backfill by date fills it in for each of its runs: leave it out")
    today = now.astimezone(UTC).date()
    for name in BOUNDS:
        bound = moment(asked[name])
        if bound.time() != time():
            yield Mistake(
                name, f"expected midnight in UTC, found {bound:%Y-%m-%dT%H:%M:%S} UTC: set the UI's clock to UTC"
            )
        elif bound.date() > today:
            yield Mistake(
                name,
                f"{bound:%Y-%m-%d} is after today, {today} in UTC: its run would wait until then; choose first_date so "
                "that all dates are past",
            )


def moment(text: str) -> datetime:
    """Read a bound as Airflow does, in UTC unless it says otherwise. Raises ValueError, TypeError."""
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
