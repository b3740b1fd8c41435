"""Say in words what a run will do and what it may cost: for the log of its first task and for its report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from shardmill.core.page_text import size_text
from shardmill.specs.prices import Span
from shardmill.specs.run import PlannedCluster, PlannedCost, RunClusters


def span_text(span: Span, form: str = ",.0f") -> str:
    """Write a least and a most, once where both read the same."""
    least, most = (format(value, form) for value in span)
    return least if least == most else f"{least} to {most}"


def plan_lines(planned: RunClusters) -> Iterator[str]:
    """Give the plan line by line: what is to be done and why, what it rests on, each cost, each check."""
    for stage in planned.stages:
        why = ", ".join(f"{shards:,} {reason}" for reason, shards in stage.why.items())
        shards = f"1 {stage.unit}" if stage.shards == 1 else f"{stage.shards:,} {stage.unit}s"
        yield f"{stage.stage}: {shards} to do, {size_text(stage.bytes)} at the source: {why}"
    if planned.clips:
        yield f"expected: {span_text(planned.clips)} clips ({planned.clips_rest_on})"
    for cluster in planned.clusters:
        yield from _cluster_lines(cluster, planned.max_hours)
    yield from cost_lines(planned.costs)
    yield from planned.remarks
    yield from (f"checked: {line}" for line in planned.checked)
    yield from (f"not checked: {line}" for line in planned.not_checked)
    if planned.clusters or planned.costs:
        yield f"prices: {planned.prices}"


def cost_lines(costs: Iterable[PlannedCost]) -> Iterator[str]:
    """Say what each cost beside the clusters is made of."""
    for cost in costs:
        usd = "no price known" if cost.usd is None else _usd(cost.usd)
        form = ",.0f" if cost.amount[0] >= 100 else ",.3g"
        yield f"{cost.what}: {span_text(cost.amount, form)} {cost.unit}, {usd} ({cost.rests_on})"
        yield from (f"{cost.what}: no price known for {place}" for place in cost.unknown)


def _usd(span: Span) -> str:
    return f"{span_text(span, '.2f')} USD" if span[1] >= 0.005 else "less than 0.01 USD"


def _cluster_lines(cluster: PlannedCluster, max_hours: float) -> Iterator[str]:
    name = f"cluster to {cluster.work}"
    yield f"{name}: {cluster.request['ReleaseLabel']}, {', '.join(cluster.lines)}"
    most = f"{cluster.usd_an_hour * max_hours:.2f} USD if it lasts until max_hours = {max_hours:g}"
    if cluster.hours and cluster.usd:
        expected = f"{span_text(cluster.hours, '.2g')} hours, {span_text(cluster.usd, '.2f')} USD expected"
        yield f"{name}: {expected} ({cluster.rests_on}); {most}"
    else:
        yield f"{name}: {most}"
    yield from (f"{name}: {line}" for line in cluster.spark)
    yield from (f"{name}: no price known for {place}" for place in cluster.unknown)
