"""Choose the shards of a night, by what is due and what it is expected to take."""

from __future__ import annotations

from shardmill.adapters.access import Access
from shardmill.adapters.failed_shards import read_failures
from shardmill.adapters.store import Store
from shardmill.core.forecast import ShardForecast, check_prices_known, forecast_shards, planned_work
from shardmill.core.nightly import Caps, Due, choose_night
from shardmill.jobs.plan.forecasting import load_of, prices_of
from shardmill.jobs.plan.survey import Surveyed
from shardmill.specs.run import RunPlan
from shardmill.specs.shard_runs import NightlySpec


def plan_night(lake: Store, asked: NightlySpec, found: Surveyed, access: Access, *, labels: str) -> RunPlan:
    """Plan what a night does, and say why the rest is left.

    Args:
        labels: digest of the label table.

    Raises:
        BadRequestError: a wrong price file.
        BudgetError: a limit in USD that cannot be held, for prices are missing.
    """
    prices = prices_of(asked, access)
    load = load_of(asked, found, retry=True, prices=prices)
    each = tuple(forecast_shards(load, prices, asked.cores))
    check_prices_known((place for one in each for place in one.unknown), asked.max_usd)
    failures = read_failures(lake, asked, labels, (one.planned for one in each))

    def due(one: ShardForecast) -> Due:
        shard = one.planned.shard
        failed = failures.get(shard)
        modified = found.listed[shard].modified
        return Due(one, modified, len(failed.runs), failed.why) if failed else Due(one, modified)

    night = choose_night(map(due, each), Caps(asked.max_shards, asked.max_hours, asked.max_usd))
    return RunPlan(
        shards=night.planned,
        notes=(*found.states.lines(), *night.lines(len(found.listed))),
        left=tuple(night.left_lines()),
        above_caps=dict(night.above_caps),
        in_range=len(found.listed),
        work=planned_work((one.forecast for one in night.taken), load, asked.cores, prices),
    )
