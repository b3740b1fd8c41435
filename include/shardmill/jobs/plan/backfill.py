"""Say what a backfill of a range of shards has before it."""

from __future__ import annotations

from collections.abc import Sequence

from shardmill.adapters.access import Access
from shardmill.core.costs import BudgetError
from shardmill.core.forecast import ShardForecast, check_prices_known, forecast_shards, planned_work, total
from shardmill.core.shard_dates import date_line
from shardmill.jobs.plan.forecasting import load_of, prices_of
from shardmill.jobs.plan.survey import Surveyed
from shardmill.specs.run import RunPlan
from shardmill.specs.shard_runs import BackfillSpec


def plan_backfill(asked: BackfillSpec, found: Surveyed, access: Access) -> RunPlan:
    """Plan the shards of the range for which something is to be done, and say so in the last of the notes.

    Raises:
        BadRequestError: a wrong price file.
        BudgetError: more than `max_usd`, or prices are missing that it would take to know.
    """
    prices = prices_of(asked, access)
    load = load_of(asked, found, retry=asked.retry_rejects, prices=prices)
    each = tuple(forecast_shards(load, prices, asked.cores))
    line = _line(asked, found, each)
    return RunPlan(
        shards=tuple(one.planned for one in each),
        notes=(*found.states.lines(), line),
        in_range=len(found.listed),
        work=planned_work(each, load, asked.cores, prices),
    )


def _line(asked: BackfillSpec, found: Surveyed, each: Sequence[ShardForecast]) -> str:
    day, shards = date_line(asked, found.listed), f"{len(found.listed):,} shards of the range"
    if not each:
        return f"{day}; nothing to do" if day else f"nothing to do: all {shards} are done"
    whole = total(each)
    check_prices_known(whole.unknown, asked.max_usd)
    if asked.max_usd and whole.usd[1] > asked.max_usd:
        raise BudgetError(f"max_usd: {whole.line}; allowed are {asked.max_usd:.2f} USD: raise it, or take fewer shards")
    return f"{day}; to do: {whole.line}" if day else f"to do, of {shards}: {whole.line}"
