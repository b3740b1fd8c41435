"""One worker alone: nothing to combine."""

from __future__ import annotations

from shardmill.core.rules.rule import Shared, Vector


class Single:
    """Adam on one worker's batches (Kingma and Ba 2015)."""

    name = "one worker"
    shares = Shared.STATE
    keeps_own = True

    def is_due(self, steps: int, more: bool) -> bool:
        return True  # it waits for nobody, and may be saved after any step

    def contribute(self, own: Vector, examples: int) -> Vector:
        return own

    def take(self, total: Vector, examples: int) -> Vector:
        return total
