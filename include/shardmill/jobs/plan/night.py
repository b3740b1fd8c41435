"""Choose the shards of a night, by what is due and what it is expected to take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shardmill.adapters.access import Access
from shardmill.adapters.prices import read_prices
from shardmill.core.estimates import Load
from shardmill.core.forecast import ShardForecast, check_prices_known, forecast_shards
from shardmill.core.nightly import Caps, Due, Night, choose_night
from shardmill.jobs.plan.survey import Surveyed
from shardmill.specs.run import PlannedShard
from shardmill.specs.shard_runs import NightlySpec, WorkersRun


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


def forecast(
    asked: WorkersRun, found: Surveyed, planned: Iterable[PlannedShard], access: Access
) -> Sequence[ShardForecast]:
    """Forecast the shards for which something is to be done, by those that are cut already and by the price file."""
    settings = access.settings_of(asked.prices, asked.source) if asked.prices else None
    prices = read_prices(asked.prices, settings)
    clips = found.states.by_stage["clips"]
    rows = {shard: state.row for shard, state in clips.items() if state.state == "done" and state.row is not None}
    return tuple(forecast_shards(Load(asked, tuple(planned), rows, prices.rates), prices, asked.cores))
