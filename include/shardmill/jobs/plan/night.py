"""Choose the shards of a night, by what is due and what it is expected to take."""

from __future__ import annotations

from shardmill.adapters.access import Access
from shardmill.core.forecast import check_prices_known
from shardmill.core.nightly import Caps, Due, Night, choose_night
from shardmill.jobs.plan.forecasting import forecast
from shardmill.jobs.plan.survey import Surveyed
from shardmill.specs.shard_runs import NightlySpec


def plan_night(asked: NightlySpec, found: Surveyed, access: Access) -> Night:
    """Choose what a night does.

    Raises:
        BadRequestError: a wrong price file.
        BudgetError: a limit in USD that cannot be held, for prices are missing.
    """
    each = forecast(asked, found, found.planned(retry=True), access)
    check_prices_known((place for one in each for place in one.unknown), asked.max_usd)
    due = (Due(one, found.listed[one.planned.shard].modified) for one in each)
    return choose_night(due, Caps(asked.max_shards, asked.max_hours, asked.max_usd))
