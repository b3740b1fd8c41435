"""Put what a night or a backfill came to beside what was planned of its shards, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from shardmill.core.cost_rows import CostRow, CostTable, Work, side_row, total_row, work_of
from shardmill.core.estimates import planned_stages
from shardmill.core.plan_lines import cost_lines
from shardmill.core.report import Found
from shardmill.specs.run import PlannedWork, RunPlan


def work_table(found: Found, took: float | None) -> CostTable | None:
    """Make the table of a run on Airflow's workers; None where nothing was to be done, or an older version planned it.

    Args:
        took: wall seconds since the run began; None where that is not known.
    """
    plan = found.plan
    if plan is None or plan.work is None:
        return None
    began = None if found.run.is_dry else took
    rows = (
        *(CostRow(stage.stage, work_of(found, stage)) for stage in planned_stages(plan.shards)),
        _whole(found, plan),
        _time(plan.work, began),
        *(_charged(found, plan.work)),
    )
    lines = (*cost_lines(plan.work.costs), f"prices: {plan.work.prices}")
    return CostTable(plan.work.summary, rows, total_row(rows), lines, on_workers=True)


def done_of(found: Found) -> tuple[int, int] | None:
    """Count the shards that were due and have records now, and those that were due; None without a plan."""
    if found.plan is None:
        return None
    due = found.plan.unfinished
    return sum(found.is_done(one, "features") for one in due), len(due)


def _whole(found: Found, plan: RunPlan) -> CostRow:
    """Count the videos of the shards that were to be cut: how many there are is known only behind the split."""
    cut = [one.shard for one in plan.shards if "clips" in one.todo and found.is_done(one, "clips")]
    clips = [found.manifests["clips"][shard] for shard in cut]
    work = Work(None, sum(len(one.videos) for one in clips), None, None, None, unit="video")
    refused = sum(len(one.rejects) for one in clips)
    return CostRow("videos", work, remark=f"{refused:,} more were refused; how many a shard holds is not known before")


def _time(work: PlannedWork, took: float | None) -> CostRow:
    cores = "1 core" if work.cores == 1 else f"{work.cores:,} cores"
    return CostRow(
        "from start to report",
        planned_hours=work.hours,
        hours=None if took is None else took / 3600,
        remark=f"planned as if {cores} worked at it without a pause, and nothing else took time",
    )


def _charged(found: Found, work: PlannedWork) -> Iterator[CostRow]:
    for cost in work.costs:
        row = side_row(cost, found.stored)
        yield replace(row, usd=None) if found.run.is_dry else row
