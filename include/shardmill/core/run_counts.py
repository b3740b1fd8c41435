"""A run in numbers: for the head of its report, and for the report of the next run to be held against."""

from __future__ import annotations

from collections.abc import Sequence

from shardmill.core.report import Found, TaskRow
from shardmill.core.report_counts import group_rejects
from shardmill.specs.result import RunResult
from shardmill.specs.shard_runs import WorkersRun
from shardmill.specs.train_on_records import TrainOnRecordsSpec

COPIED = "videos not encoded again"


def run_counts(found: Found) -> dict[str, int | None]:
    """Count by name; None where the run did not come so far."""
    if isinstance(found.run.asked, WorkersRun):
        return _video_counts(found)
    model, records = found.model, found.records
    counts: dict[str, int | None] = {
        **(_record_counts(found) if isinstance(found.run.asked, TrainOnRecordsSpec) else _video_counts(found)),
        "labels": len(records.vocabulary) if records else None,
        "training videos": sum(part.records for part in records.train) if records else None,
        "validation videos": sum(part.records for part in records.validation) if records else None,
        "epochs": max((entry.epoch for entry in found.history), default=0) if model or found.history else None,
    }
    if found.metrics and found.metrics.rejected:
        counts["validation records not read"] = found.metrics.rejected
    return counts


def _video_counts(found: Found) -> dict[str, int | None]:
    totals = found.totals
    return {
        "shards": totals.shards,
        "videos": totals.videos,
        "clips": totals.clips,
        COPIED: totals.copied,
        "rejects": totals.rejects,
    }


def _record_counts(found: Found) -> dict[str, int | None]:
    told = found.found_records
    return {
        "files": told.files if told else None,
        "records": told.records if told else None,
        "files not used": len(told.broken) if told else None,
        "records not used": told.rejected_records if told else None,
    }


def state_of(found: Found, *, failed: bool) -> str:
    """Tell how a run stands: ``succeeded``, ``failed``, ``planned`` or ``unfinished``."""
    if failed:
        return "failed"
    if found.run.is_dry and (found.clusters or (found.plan and isinstance(found.run.asked, WorkersRun))):
        return "planned"
    return "succeeded" if found.metrics or isinstance(found.run.asked, WorkersRun) else "unfinished"


def run_result(found: Found, tasks: Sequence[TaskRow], state: str, took: float | None) -> RunResult:
    """Write down what the next run's report is to compare with; names that are unknown are left out."""
    sizes = {
        f"bytes of {'records' if stage == 'features' else stage}": sum(
            part.size for manifest in by_shard.values() for part in manifest.parts
        )
        for stage, by_shard in found.manifests.items()
        if stage != "raw" and by_shard
    }
    return RunResult(
        state=state,
        counts={name: count for name, count in {**run_counts(found), **sizes}.items() if count is not None},
        rejects={f"{group.stage}, {group.reason}": group.count for group in group_rejects(found.manifests)},
        seconds={task.task: round(task.seconds, 1) for task in tasks if task.seconds is not None},
        took=took,
        usd=found.spent.usd if found.spent and found.spent.clusters else None,
    )
