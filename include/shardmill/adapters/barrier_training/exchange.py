"""An exchange: a worker's contribution and a few numbers beside it, summed over the ring in one buffer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shardmill.adapters.barrier_training.place import Ring
from shardmill.core.rules import Rule, Vector


@dataclass(frozen=True, eq=False)
class Exchanged:
    """What an exchange gave, the same on every worker."""

    taken: Vector | None
    """What the rule makes of the sum; None where no worker had an example, or one works alone."""
    examples: int
    """Of all workers since the last exchange."""
    active: int
    """Workers that have another batch in this epoch."""
    is_saved_now: bool
    """Whether rank 0 wants a checkpoint here."""


def exchange(ring: Ring, rule: Rule, own: Vector | None, *, examples: int, more: bool, save: bool) -> Exchanged:
    """Exchange once.

    Args:
        own: gradient or state; None where this worker works alone and has nothing to exchange.
        examples: this worker's since the last exchange; exact in sum up to 2²⁴.
        more: whether this worker has another batch in this epoch.
        save: whether this worker wants a checkpoint.
    """
    tail = np.array([examples, more, save], np.float32)
    buffer = tail if own is None else np.concatenate([rule.contribute(own, examples), tail])
    ring.sum(buffer)
    total, active, wanted = (int(value) for value in buffer[-3:])
    taken = rule.take(buffer[:-3], total) if own is not None and total else None
    return Exchanged(taken, total, active, wanted > 0)
