"""Shards taken through all stages, as nights and backfills do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shardmill.specs.shard_runs import NightlySpec
from shardmill.stages.errors import unfit_errors
from shardmill.stages.opened import OpenRun
from shardmill.stages.outcomes import Say, ShardOutcome, each, tell
from shardmill.stages.shard_work import describing, ingesting, splitting


def through(opened: OpenRun, shards: Sequence[int], say: Say) -> str:
    """Take shards through all stages, one shard after the other, so that a killed task leaves whole ones behind it.

    The run's labels are known beforehand. What is done is skipped, stage by stage.
    """
    stages = ingesting(opened), splitting(opened, say), describing(opened, opened.plan.labels, say)

    def do(shard: int) -> ShardOutcome:
        try:
            return _Through(shard, [stage(shard) for stage in stages])
        except unfit_errors() as error:
            _remember(opened, shard, error, say)
            raise

    return tell("did", each(shards, do, say), say)


def _remember(opened: OpenRun, shard: int, error: Exception, say: Say) -> None:
    """Note that a night could not do a shard, for the nights that come."""
    from shardmill.adapters.failed_shards import note_failure
    from shardmill.adapters.store import StoreError

    if not isinstance(opened.run.asked, NightlySpec):
        return
    planned = next(planned for planned in opened.plan.shards if planned.shard == shard)
    try:
        note_failure(opened.lake, opened.run, opened.plan.labels, planned, f"{type(error).__name__}: {error}")
    except StoreError as missed:
        # The shard's own error is what matters: it is raised.
        say(f"shard {shard:06d}: its failure was not noted: {missed}")


@dataclass(frozen=True)
class _Through:
    shard: int
    outcomes: Sequence[ShardOutcome]
    """Of the stages, in order."""

    @property
    def skipped(self) -> bool:
        return all(outcome.skipped for outcome in self.outcomes)

    @property
    def why(self) -> str:
        return ", ".join(dict.fromkeys(outcome.why for outcome in self.outcomes))
