"""What a cluster may cost: from an EMR request, hours and prices to a sum in USD, or to the prices that are missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from shardmill.core.requested_nodes import Choice, NodeGroup, NodeType, node_groups, volumes_gib
from shardmill.specs.prices import Prices
from shardmill.specs.run import PlannedCost

_HOURS_A_MONTH = 730.0


class BudgetError(ValueError):
    """A run may cost more than it is allowed to, or nobody can say what; names the field."""


@dataclass(frozen=True)
class Bill:
    """What a cluster costs an hour, as far as prices are known."""

    usd_an_hour: float
    """Of all nodes together, at most: of a fleet's types the dearest, of spot nodes the price on demand."""
    lines: tuple[str, ...]
    """What it is made of, for people."""
    unknown: tuple[str, ...] = ()
    """What has no price, each with its place in the price file."""
    least_usd_an_hour: float | None = None
    """At least: of a fleet's types the cheapest, of spot nodes the price that is expected; None for the same."""
    node_usd: Mapping[str, float | None] = field(default_factory=dict)
    """An hour of one node of each type with all that belongs to it (`m5.xlarge`, or `m5.xlarge spot`); None where a
    price is missing."""

    def between(self, hours: tuple[float, float]) -> tuple[float, float]:
        """Give the least and the most USD for so many hours."""
        least = self.usd_an_hour if self.least_usd_an_hour is None else self.least_usd_an_hour
        return least * hours[0], self.usd_an_hour * hours[1]


def bill_of(
    request: Mapping[str, Any], prices: Prices, region: str, types: Mapping[str, NodeType] | None = None
) -> Bill:
    """Put prices to the nodes of a RunJobFlow.

    Args:
        request: its arguments, with instance groups or fleets.
        region: where the cluster is to run; prices of another region are none.
        types: what EC2 says of the instance types, for the volumes that EMR adds by itself.
    """
    if prices.region != region:
        return Bill(0.0, (), (f"all prices: they are those of {prices.region}, the cluster runs in {region}",))
    least, most, lines = 0.0, 0.0, []
    unknown: dict[str, None] = {}
    node_usd: dict[str, float | None] = {}
    pricing = _Pricing(prices, request, types or {})
    for group in node_groups(request):
        priced = [pricing.of(choice, spot=group.spot) for choice in group.choices]
        unknown |= dict.fromkeys(place for each in priced for place in each.unknown)
        # A fleet may take nodes on demand where it gets no spot ones.
        on_demand = [pricing.of(choice, spot=False) for choice in group.choices]
        node_usd |= {each.name: each.node_usd for each in (*on_demand, *priced)}
        low, high = min(each.least for each in priced), max(each.most for each in priced)
        least, most = least + low, most + high
        lines.append(_line(group, low, high))
    return Bill(most, tuple(lines), tuple(unknown), least, node_usd)


def _line(group: NodeGroup, least: float, most: float) -> str:
    nodes = " or ".join(f"{choice.count} × {choice.instance_type}" for choice in group.choices)
    usd = f"{most:.3f}" if f"{least:.3f}" == f"{most:.3f}" else f"{least:.3f} to {most:.3f}"
    return f"{nodes} ({group.name}{', spot' if group.spot else ''}): {usd} USD an hour"


@dataclass(frozen=True)
class _Priced:
    """A way to fill a group, with prices put to it; what has none is named and counted as nothing."""

    name: str
    unknown: tuple[str, ...]
    node_usd: float | None
    least: float
    most: float


@dataclass(frozen=True)
class _Pricing:
    prices: Prices
    request: Mapping[str, Any]
    types: Mapping[str, NodeType]

    def of(self, choice: Choice, *, spot: bool) -> _Priced:
        prices, name = self.prices, choice.instance_type
        fee = f"emr_hour.{name}", prices.emr_hour.get(name)
        volumes = "volume_gib_month", _hourly(prices.volume_gib_month, volumes_gib(self.request, choice, self.types))
        on_demand = f"instance_hour.{name}", prices.instance_hour.get(name)
        expected = (f"spot_hour.{name}", prices.spot_hour.get(name)) if spot else on_demand
        unknown = [place for place, usd in dict((expected, on_demand, fee, volumes)).items() if usd is None]
        beside = (fee[1] or 0.0) + (volumes[1] or 0.0)
        # A spot instance never costs more than one on demand, unless somebody bids more. Who knows only one of both
        # prices knows no range.
        known = (0.0, 0.0) if expected[1] is None or on_demand[1] is None else (expected[1], on_demand[1])
        return _Priced(
            f"{name} spot" if spot else name,
            tuple(unknown),
            None if unknown else known[0] + beside,
            choice.count * (known[0] + beside),
            choice.count * (max(known) + beside),
        )


def _hourly(usd_a_month: float | None, amount: float) -> float | None:
    return None if usd_a_month is None else usd_a_month * amount / _HOURS_A_MONTH


def check_hours(work: str, least_hours: float, max_hours: float) -> None:
    """Refuse a cluster whose work surely takes longer than it may live.

    Args:
        least_hours: what the work takes when all goes as fast as can be hoped for, start-up not counted.

    Raises:
        BudgetError: naming the field.
    """
    if least_hours > max_hours:
        raise BudgetError(
            f"max_hours: to {work} takes at least {least_hours:.1f} hours, even at the fastest rate that is likely, "
            f"and the cluster is ended after {max_hours:g}: raise it, take more or larger nodes, or fewer shards or "
            "epochs; if your nodes are faster than that, say so under `rates` in a price file of your own"
        )


def check_budget(
    bills: Mapping[str, Bill], max_hours: float, max_usd: float, beside: Iterable[PlannedCost] = ()
) -> None:
    """Refuse a run that could cost more than ``max_usd`` if each of its clusters lives until its deadline.

    Args:
        bills: by what the clusters are for.
        max_usd: 0 for no limit.
        beside: what else the run is charged for.

    Raises:
        BudgetError: it could, or a price is missing that it would take to know.
    """
    if not max_usd:
        return
    others = tuple(beside)
    unknown = dict.fromkeys(_missing(bills, others))
    if unknown:
        raise BudgetError(
            f"max_usd: no price known for {', '.join(unknown)}: add it to a price file and name that "
            "in `prices`, or set max_usd to 0 for no limit"
        )
    clusters = sum(bill.between((0, max_hours))[1] for bill in bills.values())
    rest = {cost.what: cost.usd[1] for cost in others if cost.usd is not None}
    if clusters + sum(rest.values()) > max_usd:
        and_rest = "".join(f", {usd:.2f} for {what}" for what, usd in rest.items() if usd >= 0.005)
        raise BudgetError(
            f"max_usd: the clusters of this run could cost {clusters:.2f} USD in max_hours = {max_hours:g}{and_rest}; "
            f"allowed are {max_usd:.2f}: raise it, or lower max_hours or the number of nodes"
        )


def _missing(bills: Mapping[str, Bill], beside: Iterable[PlannedCost]) -> Iterator[str]:
    for bill in bills.values():
        yield from bill.unknown
    for cost in beside:
        yield from cost.unknown
