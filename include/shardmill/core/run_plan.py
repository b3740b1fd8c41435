"""Plan what a run costs: from its load, the requests for its clusters and prices to what is written down of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shardmill.core.costs import Bill, bill_of, check_budget, check_hours
from shardmill.core.estimates import ClusterWork, Load, core_hours_to_split, planned_stages, splitting, training
from shardmill.core.requested_nodes import NodeType, node_groups
from shardmill.core.side_costs import side_costs
from shardmill.specs.cluster_run import ClusterRun
from shardmill.specs.prices import Prices, Rates
from shardmill.specs.run import PlannedCluster, PlannedCost, PlannedStage, RunClusters
from shardmill.specs.video_pipeline import VideoPipelineSpec, VideoRun


@dataclass(frozen=True)
class Draft:
    """A cluster that a run asks for."""

    request: Mapping[str, Any]
    """Arguments of RunJobFlow."""
    spark: tuple[str, ...] = ()
    """How Spark is laid out on its nodes, for people."""


@dataclass(frozen=True)
class Where:
    """Where the clusters run, and what EC2 says of the instance types there."""

    region: str
    types: Mapping[str, NodeType]


@dataclass(frozen=True)
class Outlook:
    """What a run is expected to do, of whatever kind it is."""

    asked: ClusterRun
    rates: Rates
    work: Mapping[str, ClusterWork | None]
    """Of each of its clusters; None where nothing is known of it."""
    costs: tuple[PlannedCost, ...]
    """Beside the clusters."""
    stages: tuple[PlannedStage, ...] = ()
    remarks: tuple[str, ...] = ()


def plan_costs(load: Load[VideoPipelineSpec], drafts: Mapping[str, Draft], prices: Prices, where: Where) -> RunClusters:
    """Plan what a run does and costs.

    Args:
        drafts: its clusters, by what they are for.

    Raises:
        BudgetError: more than `max_usd`, or more work than fits into `max_hours`.
    """
    clips, why = load.clips
    outlook = Outlook(
        asked=load.asked,
        rates=load.rates,
        work={name: _work(name, load, draft, where.types) for name, draft in drafts.items()},
        costs=side_costs(load, prices_there(prices, where)),
        stages=planned_stages(load.shards),
        remarks=tuple(_remarks(load)),
    )
    settled = settle_costs(outlook, drafts, prices, where)
    return settled.model_copy(update={"clips": clips, "clips_rest_on": why})


def settle_costs(outlook: Outlook, drafts: Mapping[str, Draft], prices: Prices, where: Where) -> RunClusters:
    """Put prices to what a run of any kind is expected to do. Raises BudgetError as ``plan_costs`` does."""
    asked, work = outlook.asked, outlook.work
    bills = {name: bill_of(draft.request, prices, where.region, where.types) for name, draft in drafts.items()}
    for name, needed in work.items():
        if needed is not None:
            check_hours(name, needed.hours[0], asked.max_hours)
    check_budget(bills, asked.max_hours, asked.max_usd, outlook.costs)
    return RunClusters(
        clusters=tuple(_cluster(name, draft, (bills[name], work[name]), outlook) for name, draft in drafts.items()),
        max_hours=asked.max_hours,
        prices=f"{prices.region}, {prices.as_of}: {prices.source}",
        stages=outlook.stages,
        costs=outlook.costs,
        remarks=outlook.remarks,
    )


def prices_there(prices: Prices, where: Where) -> Prices:
    """Forget what is not priced by node where the prices are those of another region."""
    if prices.region == where.region:
        return prices
    return prices.model_copy(
        update={"storage_gib_month": None, "put_thousand": None, "get_thousand": None, "traffic_gib": {}}
    )


def _work(name: str, load: Load[VideoPipelineSpec], draft: Draft, types: Mapping[str, NodeType]) -> ClusterWork | None:
    """Estimate a cluster's work; None where it is not known what its nodes can."""
    if name == "train":
        return training(load)
    workers = [group for group in node_groups(draft.request) if group.role != "MASTER"]
    known = [
        types[choice.instance_type].vcpus
        for each in workers
        for choice in each.choices
        if choice.instance_type in types
    ]
    if not known:
        return None
    return splitting(load, sum(each.choices[0].count for each in workers), min(known))


def _cluster(name: str, draft: Draft, found: tuple[Bill, ClusterWork | None], outlook: Outlook) -> PlannedCluster:
    bill, work = found
    return PlannedCluster(
        work=name,
        request=dict(draft.request),
        usd_an_hour=bill.usd_an_hour,
        least_usd_an_hour=bill.least_usd_an_hour,
        lines=bill.lines,
        unknown=bill.unknown,
        hours=work.alive(outlook.rates, outlook.asked.max_hours) if work else None,
        rests_on=work.rests_on if work else "nobody says how large its nodes are",
        spark=draft.spark,
        node_usd=dict(bill.node_usd),
    )


def _remarks(load: Load[VideoRun]) -> Iterator[str]:
    asked = load.asked
    if asked.where == "workers" and load.to_do("clips"):
        least, most = core_hours_to_split(load)
        yield f"split on Airflow's own workers: {least:.2g} to {most:.2g} core-hours, which are not counted as a cost"
    if load.to_do("features"):
        yield "records are made on Airflow's own workers, which are not counted as a cost"
    if asked.source.startswith("s3://") and not asked.source_connection:
        yield "traffic from the source is counted as none: within a region of AWS it is free"
