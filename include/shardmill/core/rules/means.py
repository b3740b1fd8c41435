"""The mean that all rules share: over examples, not over workers."""

from __future__ import annotations

import numpy as np

from shardmill.core.rules.rule import Vector


def weighted(own: Vector, examples: int) -> Vector:
    """Multiply by a number of examples, so that sums over workers can become means over examples.

    Without examples a worker adds nothing, not even what is not finite.
    """
    return own * np.float32(examples) if examples else np.zeros_like(own)


def mean(total: Vector, examples: int) -> Vector:
    """Give the mean over examples of a sum of weighted vectors."""
    if examples < 1:
        raise ValueError(f"a mean needs examples, found {examples}: nothing was exchanged that could be taken")
    return total / np.float32(examples)
