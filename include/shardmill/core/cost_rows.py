"""Put what a run came to beside what was planned, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shardmill.core.page import duration_text
from shardmill.core.plan_lines import plan_lines, span_text
from shardmill.core.report import CostRow, CostTable, Found, TaskRow
from shardmill.core.side_costs import GIB, STORAGE
from shardmill.specs.prices import Span
from shardmill.specs.run import PlannedCluster, PlannedCost, RunClusters
from shardmill.specs.spent import RunSpent, SpentCluster

_ON_WORKERS = ("ingest", "split", "features", "fetch")
_NOT_COUNTED = "Airflow's own workers, not counted as a cost"


def cost_table(found: Found, tasks: Sequence[TaskRow]) -> CostTable | None:
    """Make the table of a run; None where it was not planned."""
    planned = found.clusters
    if planned is None:
        return None
    rows = (
        *(_worker_row(task) for task in tasks if task.task in _ON_WORKERS and task.seconds is not None),
        *(row for cluster in planned.clusters for row in _cluster_rows(cluster, _of(found.spent, cluster.work))),
        *(_side_row(cost, found.stored) for cost in planned.costs),
    )
    return CostTable(planned.summary, rows, _total(rows), tuple(plan_lines(planned)))


def _of(spent: RunSpent | None, work: str) -> tuple[SpentCluster, ...]:
    return tuple(cluster for cluster in spent.clusters if cluster.work == work) if spent else ()


def _worker_row(task: TaskRow) -> CostRow:
    return CostRow(task.task, hours=(task.seconds or 0.0) / 3600, remark=_NOT_COUNTED)


def _cluster_rows(planned: PlannedCluster, spent: Sequence[SpentCluster]) -> Iterator[CostRow]:
    yield CostRow(
        f"cluster to {planned.work}",
        planned.hours,
        planned.usd,
        sum(cluster.hours for cluster in spent) if spent else None,
        sum(cluster.usd for cluster in spent) if spent else None,
        "; ".join(_cluster_remark(cluster) for cluster in spent) or "none is known: not made, or EMR did not say",
    )
    for cluster in spent:
        for step in cluster.steps:
            yield CostRow(f"step {step.name}", hours=step.hours, remark=step.state, part=True)


def _cluster_remark(cluster: SpentCluster) -> str:
    alive = "" if cluster.ended else ", alive when this was written"
    unknown = f", no price for {', '.join(cluster.unknown)}" if cluster.unknown else ""
    return f"{cluster.id} {cluster.state}{alive}{unknown}"


def _side_row(cost: PlannedCost, stored: int) -> CostRow:
    if cost.what != STORAGE:
        return CostRow(cost.what, planned_usd=cost.usd, remark=_missing(cost) or "not measured")
    if cost.usd is None or not cost.amount[1]:
        return CostRow(cost.what, remark=_missing(cost))
    usd = stored / GIB * cost.usd[1] / cost.amount[1]
    return CostRow(cost.what, planned_usd=cost.usd, usd=usd, remark=f"{stored / GIB:,.3g} GiB are there")


def _missing(cost: PlannedCost) -> str:
    return f"no price known for {', '.join(cost.unknown)}" if cost.unknown else ""


def _total(rows: Sequence[CostRow]) -> CostRow:
    """Add up what is counted in USD. What it came to is known only where a row says so."""
    planned = [row.planned_usd for row in rows if row.planned_usd is not None]
    came = [row.usd for row in rows if row.usd is not None]
    both: Span = (sum(span[0] for span in planned), sum(span[1] for span in planned))
    return CostRow("together, as far as it is known", planned_usd=both, usd=sum(came) if came else None)


def spent_lines(planned: RunClusters, spent: RunSpent) -> Iterator[str]:
    """Say what each cluster came to, beside the plan."""
    for cluster in planned.clusters:
        for each in _of(spent, cluster.work):
            expected = f"{span_text(cluster.hours, '.2g')} hours" if cluster.hours else "no hours"
            usd = f", {span_text(cluster.usd, '.2f')} USD" if cluster.usd else ""
            yield (
                f"cluster to {cluster.work}: {duration_text(3600 * each.hours)}, {each.usd:.2f} USD "
                f"({_cluster_remark(each)}); expected were {expected}{usd}"
            )
    for each in spent.alive:
        yield f"cluster {each.id} had not ended"
