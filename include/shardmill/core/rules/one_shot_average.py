"""One-shot averaging: workers train alone, and the model is the mean of theirs."""

from __future__ import annotations

from shardmill.core.rules.means import mean, weighted
from shardmill.core.rules.rule import Shared, Vector


class OneShotAverage:
    """Average once, when training ends (Zinkevich et al. 2010, "Parallelized stochastic gradient descent", alg. 3).

    w ← Σ nᵢ wᵢ / Σ nᵢ over the workers' examples nᵢ (McDonald et al. 2009 weigh mixtures likewise). After an epoch the
    mean is looked at, to measure it, and every worker goes on with its own. Made for convex losses: weights of a
    network that went different ways have no good mean.
    """

    name = "one-shot averaging, a mean at the end"
    shares = Shared.STATE
    keeps_own = True

    def is_due(self, steps: int, more: bool) -> bool:
        return not more

    def contribute(self, own: Vector, examples: int) -> Vector:
        return weighted(own, examples)

    def take(self, total: Vector, examples: int) -> Vector:
        return mean(total, examples)
