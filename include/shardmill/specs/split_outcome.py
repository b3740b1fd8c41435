"""What splitting on a cluster leaves in a run's folder."""

from __future__ import annotations

from shardmill.specs.value import Sealed, Spec


class SplitResult(Sealed):
    """Every shard of the plan is split; stored as ``runs/<run>/split.json``."""

    recipe: str
    """Hash of the recipe."""
    shards: tuple[int, ...]
    """Those that were to be done, ascending."""
    seconds: float
    """Wall time of the job that found them all done."""


class ShardFailure(Spec):
    """Why a shard could not be split."""

    shard: int
    error: str
    hopeless: bool
    """Whether another try cannot mend it."""

    def __str__(self) -> str:
        return f"shard {self.shard:06d}: {self.error}"


class SplitFailures(Sealed):
    """What Spark's tries could not mend; stored as ``runs/<run>/split-failures.json`` until the next try."""

    failures: tuple[ShardFailure, ...]
    """Hopeless ones first."""
