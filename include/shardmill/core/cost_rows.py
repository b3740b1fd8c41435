"""Put what a run came to beside what was planned, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shardmill.core.estimates import STAGES
from shardmill.core.page_text import duration_text
from shardmill.core.plan_lines import plan_lines, span_text
from shardmill.core.report import Found, TaskRow, written
from shardmill.core.side_costs import GIB, STORAGE
from shardmill.specs.prices import Span
from shardmill.specs.run import PlannedCluster, PlannedCost, PlannedStage, RunClusters
from shardmill.specs.spent import RunSpent, SpentCluster

_NOTHING = "nothing was to be done"
_ON_WORKERS = ("ingest", "split", "features", "fetch")


@dataclass(frozen=True)
class Work:
    """Units that were to be done, and those of them that are; in bytes at the source, and in bytes written."""

    planned: int | None
    done: int | None
    """None where it is not known one by one."""
    planned_bytes: int | None
    done_bytes: int | None
    written_bytes: int | None
    unit: str = "shard"
    why: str = ""


@dataclass(frozen=True)
class CostRow:
    """Something that takes time or money: as it was planned, and as it came. None is unknown, or not counted."""

    what: str
    work: Work | None = None
    planned_hours: Span | None = None
    planned_usd: Span | None = None
    hours: float | None = None
    usd: float | None = None
    remark: str = ""
    part: bool = False
    """Whether it is a part of the row above."""


@dataclass(frozen=True)
class CostTable:
    """What a run was planned to cost, and what it came to."""

    summary: str
    """The plan in a line."""
    rows: tuple[CostRow, ...]
    total: CostRow
    """Of what is counted in USD."""
    lines: tuple[str, ...]
    """The plan in words."""
    on_workers: bool = False
    """Whether Airflow's own workers do all of it, without a cluster."""


def cost_table(found: Found, tasks: Sequence[TaskRow]) -> CostTable | None:
    """Make the table of a run; None where it was not planned."""
    planned = found.clusters
    if planned is None:
        return None
    rows = (
        *_worker_rows(found, tasks),
        *(row for cluster in planned.clusters for row in _cluster_rows(cluster, found)),
        *(side_row(cost, found.stored) for cost in planned.costs),
    )
    return CostTable(planned.summary, rows, total_row(rows), tuple(plan_lines(planned)))


def _of(spent: RunSpent | None, work: str) -> tuple[SpentCluster, ...]:
    return tuple(cluster for cluster in spent.clusters if cluster.work == work) if spent else ()


def _worker_rows(found: Found, tasks: Sequence[TaskRow]) -> Iterator[CostRow]:
    """Give a row for each stage that was to be done, or was, before clusters come in."""
    planned = {stage.stage: stage for stage in found.clusters.stages} if found.clusters else {}
    hours = {task.task: task.seconds / 3600 for task in tasks if task.seconds is not None}
    for name in _ON_WORKERS:
        if name in planned or name in hours:
            work = work_of(found, planned[name]) if name in planned else None
            idle = found.plan is not None and any(
                known == name and not found.to_do[stage] for stage, known in STAGES.items()
            )
            yield CostRow(name, work, hours=hours.get(name), remark=_NOTHING if idle else "")


def work_of(found: Found, planned: PlannedStage) -> Work:
    """Count what is done of a stage; of files that are fetched, what is there is known only all together."""
    why = ", ".join(f"{count:,} {reason}" for reason, count in planned.why.items())
    stage = next((stage for stage, name in STAGES.items() if name == planned.stage), None)
    if stage is None or found.plan is None:
        stored = found.stored if found.found_records else None
        return Work(planned.shards, None, planned.bytes, None, stored, planned.unit, why)
    done = [one for one in found.plan.shards if stage in one.todo and found.is_done(one, stage)]
    read = sum(one.source.size for one in done)
    made = sum(written(found.manifests[stage][one.shard]) for one in done)
    return Work(planned.shards, len(done), planned.bytes, read, made, planned.unit, why)


def _cluster_rows(planned: PlannedCluster, found: Found) -> Iterator[CostRow]:
    spent = _of(found.spent, planned.work)
    yield CostRow(
        f"cluster to {planned.work}",
        None,
        planned.hours,
        planned.usd,
        sum(cluster.hours for cluster in spent) if spent else None,
        sum(cluster.usd for cluster in spent) if spent else None,
        "; ".join(_cluster_remark(cluster) for cluster in spent) or "none is known: not made, or EMR did not say",
    )
    for cluster in spent:
        for step in cluster.steps:
            yield CostRow(
                f"step {step.name.removesuffix(f' {found.run.run}')}", hours=step.hours, remark=step.state, part=True
            )


def _cluster_remark(cluster: SpentCluster) -> str:
    alive = "" if cluster.ended else ", alive when this was written"
    unknown = f", no price for {', '.join(cluster.unknown)}" if cluster.unknown else ""
    return f"{cluster.id} {cluster.state}{alive}{unknown}"


def side_row(cost: PlannedCost, stored: int) -> CostRow:
    if cost.what != STORAGE:
        return CostRow(cost.what, planned_usd=cost.usd, remark=_missing(cost) or "not measured")
    if cost.usd is None or not cost.amount[1]:
        return CostRow(cost.what, remark=_missing(cost))
    usd = stored / GIB * cost.usd[1] / cost.amount[1]
    return CostRow(cost.what, planned_usd=cost.usd, usd=usd, remark=f"{stored / GIB:,.3g} GiB are there")


def _missing(cost: PlannedCost) -> str:
    return f"no price known for {', '.join(cost.unknown)}" if cost.unknown else ""


def total_row(rows: Sequence[CostRow]) -> CostRow:
    """Add up what is counted in USD. What it came to is known only where a row says so."""
    planned = [row.planned_usd for row in rows if row.planned_usd is not None]
    came = [row.usd for row in rows if row.usd is not None]
    both: Span = (sum(span[0] for span in planned), sum(span[1] for span in planned))
    return CostRow(
        "together, as far as it is known", planned_usd=both if planned else None, usd=sum(came) if came else None
    )


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
