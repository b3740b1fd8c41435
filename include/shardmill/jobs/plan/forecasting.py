"""Forecast what shards take, by what manifests tell of others and by the price file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shardmill.adapters.access import Access
from shardmill.adapters.prices import read_prices
from shardmill.core.estimates import Load
from shardmill.core.forecast import ShardForecast, forecast_shards
from shardmill.jobs.plan.survey import Surveyed
from shardmill.specs.prices import Prices
from shardmill.specs.run import PlannedShard
from shardmill.specs.shard_runs import WorkersRun


def prices_of(asked: WorkersRun, access: Access) -> Prices:
    """Read the price file that a run names, or the one that comes with Shardmill. Raises BadRequestError."""
    return read_prices(asked.prices, access.settings_of(asked.prices, asked.source) if asked.prices else None)


def forecast(
    asked: WorkersRun, found: Surveyed, planned: Iterable[PlannedShard], prices: Prices
) -> Sequence[ShardForecast]:
    """Forecast the shards for which something is to be done, by those that are cut already and by the price file."""
    clips = found.states.by_stage["clips"]
    rows = {shard: state.row for shard, state in clips.items() if state.state == "done" and state.row is not None}
    return tuple(forecast_shards(Load(asked, tuple(planned), rows, prices.rates), prices, asked.cores))
