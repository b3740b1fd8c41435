"""Learning rates: how the step size goes over a training."""

from __future__ import annotations

import math
from collections.abc import Callable

from shardmill.specs.training import TrainSpec

WARM_UP_SHARE = 0.05
"""Of a training: where workers multiply the rate, it rises to that over this share (Goyal et al. 2017, sec. 2.2)."""

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    # Loshchilov and Hutter 2017, "SGDR", eq. 5 without restarts.
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    # He et al. 2016 and most of those who trained ResNets: a tenth, twice.
    "step": lambda progress: 0.1 ** min(int(3 * progress), 2),
}
"""The factor at a progress of 0 to 1."""

SCALES: dict[str, Callable[[int], float]] = {
    "no": lambda ranks: 1.0,
    # Goyal et al. 2017, sec. 2.1: as many times the batch, as many times the rate.
    "linear": float,
    # Krizhevsky 2014, "One weird trick", sec. 5: what keeps the variance of a step.
    "sqrt": math.sqrt,
}
"""The factor for a number of workers."""


def learning_rate(spec: TrainSpec, progress: float) -> float:
    """Give the step size at a point of the training; equal progress gives equal rates on every worker.

    Args:
        progress: examples seen by all workers, as a share of those of all epochs; 0 to 1.
    """
    factor = SCALES[spec.scale_learning_rate](spec.ranks)
    if factor > 1:
        factor = 1 + (factor - 1) * min(progress / WARM_UP_SHARE, 1.0)
    return spec.learning_rate * factor * SCHEDULES[spec.schedule](min(max(progress, 0.0), 1.0))
