"""Say what a backfill of a range of shards has before it."""

from __future__ import annotations

from shardmill.adapters.access import Access
from shardmill.core.costs import BudgetError
from shardmill.core.forecast import check_prices_known, total
from shardmill.jobs.plan.forecasting import forecast
from shardmill.jobs.plan.survey import Surveyed
from shardmill.specs.run import PlannedShard
from shardmill.specs.shard_runs import BackfillSpec


def plan_backfill(asked: BackfillSpec, found: Surveyed, access: Access) -> tuple[tuple[PlannedShard, ...], str]:
    """Give the shards of the range for which something is to be done, ascending, and a line about them.

    Raises:
        BadRequestError: a wrong price file.
        BudgetError: more than `max_usd`, or prices are missing that it would take to know.
    """
    each = forecast(asked, found, found.planned(retry=asked.retry_rejects), access)
    if not each:
        return (), f"nothing to do: all {len(found.listed):,} shards of the range are done"
    whole = total(each)
    check_prices_known(whole.unknown, asked.max_usd)
    if asked.max_usd and whole.usd[1] > asked.max_usd:
        raise BudgetError(f"max_usd: {whole.line}; allowed are {asked.max_usd:.2f} USD: raise it, or take fewer shards")
    return tuple(one.planned for one in each), f"to do, of {len(found.listed):,} shards of the range: {whole.line}"
