"""Local SGD: every worker steps for itself, and every k steps all go on from their mean."""

from __future__ import annotations

from dataclasses import dataclass

from shardmill.core.rules.means import mean, weighted
from shardmill.core.rules.rule import Shared, Vector


@dataclass(frozen=True)
class LocalSgd:
    """Average every k steps (Stich 2019, "Local SGD converges fast and communicates little", alg. 1).

    w ← Σ nᵢ wᵢ / Σ nᵢ, where nᵢ are the examples that worker i saw since the last average, as in federated averaging
    (McMahan et al. 2017, eq. 1). Adam's moments are averaged in the same way: workers that keep their own, or begin
    anew, step in directions that the mean no longer has, which costs accuracy (Lin et al. 2020, "Don't use large
    mini-batches, use local SGD", sec. 5, look at momentum).
    """

    every: int
    """Steps between two averages, 1 or more."""

    shares = Shared.STATE
    keeps_own = False

    @property
    def name(self) -> str:
        return f"local SGD, a mean of weights and moments every {self.every} steps"

    def is_due(self, steps: int, more: bool) -> bool:
        return steps >= self.every or not more

    def contribute(self, own: Vector, examples: int) -> Vector:
        return weighted(own, examples)

    def take(self, total: Vector, examples: int) -> Vector:
        return mean(total, examples)
