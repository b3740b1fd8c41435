"""Synchronous SGD: one step for all, with the mean of their gradients."""

from __future__ import annotations

from shardmill.core.rules.means import mean, weighted
from shardmill.core.rules.rule import Shared, Vector


class AllReduce:
    """Each step is taken with the mean gradient over the workers' batches (Goyal et al. 2017, sec. 2.3, eq. 2).

    g ← Σ nᵢ gᵢ / Σ nᵢ, where gᵢ is the mean gradient over the nᵢ examples of worker i's batch. So n workers with
    batches of b do what one does with batches of n b; weights and moments stay equal on all without being sent.
    """

    name = "all-reduce, a mean of gradients every step"
    shares = Shared.GRADIENT
    keeps_own = False

    def is_due(self, steps: int, more: bool) -> bool:
        return True

    def contribute(self, own: Vector, examples: int) -> Vector:
        return weighted(own, examples)

    def take(self, total: Vector, examples: int) -> Vector:
        return mean(total, examples)
