"""Hold the first shard of a backfill against the plan: what differs too much there would do so a thousand times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shardmill.core.forecast import ShardForecast
from shardmill.core.layout import shard_name
from shardmill.core.side_costs import GIB, STORAGE
from shardmill.specs.canary import CanaryFound

START_SECONDS = 60.0
"""Allowed beside the work itself: a small shard is mostly the start of interpreters and sandboxes."""


class CanaryError(ValueError):
    """The first shard is not as planned; the message holds the comparison."""


@dataclass(frozen=True)
class Limits:
    """How far the canary may be from the plan."""

    factor: float
    """Times the most likely time and USD."""
    reject_share: float
    """0 to 1."""


@dataclass(frozen=True)
class Comparison:
    """What was planned beside what was found."""

    line: str
    fits: bool = True


def compare(plan: ShardForecast, found: CanaryFound, limits: Limits) -> list[Comparison]:
    """Hold time, rejects and USD against the plan.

    Args:
        plan: of the shard, on the cores that it was done on. Of its USD, what is stored is counted as it was found.
    """
    refused = [Comparison(f"max_reject_share: {found.refused}", fits=False)] if found.refused else []
    return [_time(plan, found, limits), _rejects(found, limits), *_usd(plan, found, limits), *refused]


def check_canary(shard: int, compared: Sequence[Comparison]) -> str:
    """Give the comparison as text. Raises CanaryError with it where something does not fit."""
    text = "; ".join(one.line for one in compared)
    if all(one.fits for one in compared):
        return f"shard {shard_name(shard)} is as planned: {text}"
    wrong = "; ".join(one.line for one in compared if not one.fits)
    raise CanaryError(
        f"canary: shard {shard_name(shard)} is not as planned, the other shards were not begun. {wrong}. "
        f"All of it: {text}. What was done of it stays. Mend the cause, or trigger a new run with other limits "
        "(canary_factor, canary_reject_share, max_reject_share), with rates of your own in a price file, or without "
        "the canary"
    )


def _time(plan: ShardForecast, found: CanaryFound, limits: Limits) -> Comparison:
    least, most = (hours * 3600 for hours in plan.hours)
    allowed = limits.factor * most + START_SECONDS
    line = (
        f"time {found.seconds:,.0f} s, planned {least:,.1f} to {most:,.1f} s on {found.cores} cores, "
        f"allowed {allowed:,.0f} s"
    )
    return Comparison(line, found.seconds <= allowed)


def _rejects(found: CanaryFound, limits: Limits) -> Comparison:
    share = found.rejects / found.samples if found.samples else 0.0
    line = f"rejects {found.rejects:,} of {found.samples:,} ({share:.0%}), allowed {limits.reject_share:.0%}"
    return Comparison(line, share <= limits.reject_share)


def _usd(plan: ShardForecast, found: CanaryFound, limits: Limits) -> Iterator[Comparison]:
    if plan.unknown:
        yield Comparison(f"USD not compared, no price known for {', '.join(plan.unknown)}")
        return
    usd = 0.0
    for cost in plan.costs:
        most = cost.usd[1] if cost.usd else 0.0
        each = most / cost.amount[1] if cost.amount[1] else 0.0
        usd += each * found.stored / GIB if cost.what == STORAGE else most
    allowed = limits.factor * plan.usd[1]
    line = f"USD {usd:.6f}, planned {plan.usd[0]:.6f} to {plan.usd[1]:.6f}, allowed {allowed:.6f}"
    yield Comparison(line, usd <= allowed)
