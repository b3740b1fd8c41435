"""Forecast what Airflow's workers take for shards: hours, and USD beside them, shard by shard and in sum."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from shardmill.core.costs import BudgetError
from shardmill.core.estimates import Load, both_text, core_hours_to_describe, core_hours_to_split
from shardmill.core.page_text import size_text
from shardmill.core.side_costs import side_costs
from shardmill.specs.prices import Prices, Span
from shardmill.specs.run import PlannedCost, PlannedShard, PlannedWork
from shardmill.specs.video_pipeline import VideoRun


@dataclass(frozen=True, slots=True)
class ShardForecast:
    """What a shard is expected to take, as the least and the most that is likely."""

    planned: PlannedShard
    hours: Span
    """On the cores that the run has."""
    usd: Span
    """Beside the workers, as far as prices are known."""
    unknown: tuple[str, ...] = ()
    """What has no price, each by its place in the price file."""
    costs: tuple[PlannedCost, ...] = ()
    """What the USD are made of."""


def forecast_shards(load: Load[VideoRun], prices: Prices, cores: int) -> Iterator[ShardForecast]:
    """Forecast each shard of a load for which something is to be done.

    Args:
        cores: that work at the shards together, at least 1.
    """
    # Once for all shards: how long their videos are is told by those that are cut.
    rates = load.rates.model_copy(update={"source_mbit_s": load.mbit_s[0]})
    for planned in load.shards:
        if not planned.todo:
            continue
        rows = {planned.shard: load.rows[planned.shard]} if planned.shard in load.rows else {}
        one = replace(load, shards=(planned,), rows=rows, rates=rates)
        spans = core_hours_to_split(one), core_hours_to_describe(one)
        costs = side_costs(one, prices)
        usd = [cost.usd for cost in costs if cost.usd is not None]
        yield ShardForecast(
            planned=planned,
            hours=(sum(span[0] for span in spans) / cores, sum(span[1] for span in spans) / cores),
            usd=(sum(span[0] for span in usd), sum(span[1] for span in usd)),
            unknown=tuple(dict.fromkeys(place for cost in costs for place in cost.unknown)),
            costs=costs,
        )


@dataclass(frozen=True)
class Forecast:
    """What some shards are expected to take together."""

    shards: int
    bytes: int
    """At the source."""
    hours: Span
    usd: Span
    unknown: tuple[str, ...]

    @property
    def line(self) -> str:
        """Say it to people."""
        count = "1 shard" if self.shards == 1 else f"{self.shards:,} shards"
        missing = f", no price known for {', '.join(self.unknown)}" if self.unknown else ""
        dollars = f"{self.usd[0]:.2f} to {self.usd[1]:.2f} USD" if self.usd[1] >= 0.005 else "less than 0.01 USD"
        if self.unknown and not self.usd[1]:
            dollars = "an unknown number of USD"
        return (
            f"{count}, {size_text(self.bytes)} at the source, {both_text(self.hours)} hours, "
            f"{dollars} for storage, requests and traffic{missing}; the workers themselves are not counted as a cost"
        )


def total(each: Iterable[ShardForecast]) -> Forecast:
    """Add forecasts up."""
    found = tuple(each)
    return Forecast(
        shards=len(found),
        bytes=sum(one.planned.source.size for one in found),
        hours=(sum(one.hours[0] for one in found), sum(one.hours[1] for one in found)),
        usd=(sum(one.usd[0] for one in found), sum(one.usd[1] for one in found)),
        unknown=tuple(dict.fromkeys(place for one in found for place in one.unknown)),
    )


def planned_work(each: Iterable[ShardForecast], load: Load[VideoRun], cores: int, prices: Prices) -> PlannedWork | None:
    """Write down what some shards are expected to take, for the report to hold it against; None for no shard.

    Args:
        load: that the forecasts are of, or of more shards.
    """
    found = tuple(each)
    if not found:
        return None
    together = total(found)
    costs: dict[str, PlannedCost] = {}
    for cost in (cost for one in found for cost in one.costs):
        costs[cost.what] = _added(costs[cost.what], cost) if cost.what in costs else cost
    # Each shard's forecast says what that one rests on; the sum rests on all that the load knows.
    whole = side_costs(replace(load, shards=tuple(one.planned for one in found)), prices)
    rests_on = {cost.what: cost.rests_on for cost in whole}
    costs = {
        what: cost.model_copy(update={"rests_on": rests_on.get(what, cost.rests_on)}) for what, cost in costs.items()
    }
    return PlannedWork(
        summary=together.line,
        hours=together.hours,
        cores=cores,
        costs=tuple(costs.values()),
        prices=f"{prices.region}, {prices.as_of}: {prices.source}",
    )


def _added(one: PlannedCost, other: PlannedCost) -> PlannedCost:
    """Add what two shards are charged for."""
    usd = None if one.usd is None or other.usd is None else _sum(one.usd, other.usd)
    return one.model_copy(update={"amount": _sum(one.amount, other.amount), "usd": usd})


def _sum(one: Span, other: Span) -> Span:
    return one[0] + other[0], one[1] + other[1]


def check_prices_known(unknown: Iterable[str], max_usd: float) -> None:
    """Refuse a limit in USD that nobody can hold a run to, for prices are missing. Raises BudgetError."""
    missing = ", ".join(dict.fromkeys(unknown))
    if max_usd and missing:
        raise BudgetError(
            f"max_usd: no price known for {missing}: add it to a price file and name that in `prices`, "
            "or set max_usd to 0 for no limit"
        )
