"""What a stage tells of its shards, and what becomes of the others where one fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from shardmill.stages.errors import hopeless_errors

Say = Callable[[str], None]
Work = Callable[[int], "ShardOutcome"]
"""Does a stage for a shard."""


class ShardOutcome(Protocol):
    """What every stage tells of a shard."""

    @property
    def shard(self) -> int: ...
    @property
    def skipped(self) -> bool: ...
    @property
    def why(self) -> str: ...


def each(shards: Sequence[int], work: Work, say: Say) -> list[ShardOutcome]:
    """Work on every shard, whatever becomes of the others; raise then what another try may mend before what not."""
    outcomes: list[ShardOutcome] = []
    errors: list[Exception] = []
    for shard in shards:
        try:
            outcomes.append(work(shard))
        except Exception as error:  # noqa: BLE001  (raised below, behind the other shards)
            say(f"shard {shard:06d} failed: {type(error).__name__}: {error}")
            errors.append(error)
    if errors:
        hopeless = hopeless_errors()
        raise next((error for error in errors if not isinstance(error, hopeless)), errors[0])
    return outcomes


def say_it(line: str, say: Say) -> str:
    """Say a line, and give it."""
    say(line)
    return line


def tell(verb: str, outcomes: Sequence[ShardOutcome], say: Say) -> str:
    """Say for each shard what was done or why not; give the sum in one line."""
    for outcome in outcomes:
        say(f"shard {outcome.shard:06d}: {'nothing to do' if outcome.skipped else verb} ({outcome.why})")
    done = sum(not outcome.skipped for outcome in outcomes)
    rest = "" if done else ": nothing to do, all present"
    return say_it(f"{verb} {done} of {len(outcomes)} shards{rest}", say)
