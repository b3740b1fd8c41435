"""Rules: how synchronous workers combine what they learned. One file each; ``RULES`` names them."""

from __future__ import annotations

from collections.abc import Callable

from shardmill.core.rules.allreduce import AllReduce
from shardmill.core.rules.local_sgd import LocalSgd
from shardmill.core.rules.one_shot_average import OneShotAverage
from shardmill.core.rules.rule import Rule, Shared, Vector
from shardmill.core.rules.single import Single
from shardmill.specs.training import TrainSpec

RULES: dict[str, Callable[[TrainSpec], Rule]] = {
    "single": lambda spec: Single(),
    "local_sgd": lambda spec: LocalSgd(spec.average_every),
    "allreduce": lambda spec: AllReduce(),
    "one_shot_average": lambda spec: OneShotAverage(),
}
"""By the spec's ``trainer``; those that are not here train in another way."""

__all__ = ["RULES", "Rule", "Shared", "Vector"]
