"""Choose what a night does: the oldest of the shards that are due, within the night's caps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from shardmill.core.forecast import ShardForecast, total
from shardmill.core.layout import shard_name
from shardmill.core.shard_states import MOST_TRIES
from shardmill.specs.run import PlannedShard

_SHOWN = 5
_REASONS = 20


class TooLargeError(ValueError):
    """Shards are passed over that no night does; the message names the fields to raise."""


@dataclass(frozen=True, slots=True)
class Due:
    """A shard for which something is to be done."""

    forecast: ShardForecast
    modified: float = 0.0
    """When its source was written, seconds since 1970; 0 where the store does not say."""
    failed: int = 0
    """Nights in which it failed as it is asked for now, of this very version of its source."""
    why_failed: str = ""

    @property
    def shard(self) -> int:
        return self.forecast.planned.shard


@dataclass(frozen=True)
class Caps:
    """What a night may come to."""

    shards: int
    hours: float
    usd: float = 0.0
    """0 for no limit."""

    def above(self, shards: int, hours: float, usd: float) -> str:
        """Name the first cap that is exceeded; empty where none is."""
        if shards > self.shards:
            return f"max_shards = {self.shards:,}"
        if hours > self.hours:
            return f"max_hours = {self.hours:g}"
        return f"max_usd = {self.usd:g}" if self.usd and usd > self.usd else ""


@dataclass(frozen=True)
class Night:
    """What is done, and what waits."""

    taken: tuple[Due, ...]
    """Oldest first."""
    left: Mapping[int, str] = field(default_factory=dict)
    """Why it waits, by shard, oldest first."""
    above_caps: Mapping[int, str] = field(default_factory=dict)
    """Of these the ones that no night does, with the cap that each is more than by itself."""

    @property
    def planned(self) -> tuple[PlannedShard, ...]:
        """What is done, ascending."""
        return tuple(sorted((one.forecast.planned for one in self.taken), key=lambda planned: planned.shard))

    def lines(self, in_range: int) -> Iterator[str]:
        """Say it to people.

        Args:
            in_range: shards that were looked at.
        """
        if not self.taken and not self.left:
            yield f"nothing is due: all {_shards(in_range)} of the range are up to date"
            return
        yield f"tonight: {total(one.forecast for one in self.taken).line}" if self.taken else "nothing is done tonight"
        yield from self.left_lines()

    def left_lines(self) -> Iterator[str]:
        """Say what waits, and why."""
        reasons = Counter(self.left.values()).most_common()
        for why, count in reasons[:_REASONS]:
            names = [shard_name(shard) for shard, reason in self.left.items() if reason == why]
            more = " …" if count > _SHOWN else ""
            yield f"left: {_shards(count)}, {why}: {' '.join(names[:_SHOWN])}{more}"
        if others := sum(count for _, count in reasons[_REASONS:]):
            yield f"left: {_shards(others)} more, each for a reason of its own"


def check_none_above_caps(above: Mapping[int, str]) -> None:
    """Refuse to call a night done that passed shards over for ever. Raises TooLargeError."""
    if above:
        caps = ", ".join(dict.fromkeys(above.values()))
        names = " ".join(map(shard_name, list(above)[:_SHOWN])) + (" …" if len(above) > _SHOWN else "")
        raise TooLargeError(
            f"{_shards(len(above))} passed over, for one alone is more than {caps}: {names}. "
            f"No night will do {'it' if len(above) == 1 else 'them'}: "
            f"raise {', '.join(dict.fromkeys(cap.split()[0] for cap in above.values()))}, or make them by a backfill"
        )


def _shards(count: int) -> str:
    return f"{count:,} {'shard' if count == 1 else 'shards'}"


def choose_night(due: Iterable[Due], caps: Caps) -> Night:
    """Take the oldest shards for as long as the caps hold; behind the first that does not fit all wait.

    A shard that alone is more than a cap would wait for ever and hold up those behind it: it is passed over, and named.
    Those that failed before come last, so that they take no other's place, and are given up after `MOST_TRIES` nights.
    """
    taken: list[Due] = []
    left: dict[int, str] = {}
    above: dict[int, str] = {}
    full, hours, usd = "", 0.0, 0.0
    for one in sorted(due, key=lambda one: (one.failed, one.modified, one.shard)):
        if one.failed >= MOST_TRIES:
            left[one.shard] = f"not tried again, for it failed in {one.failed} nights: {one.why_failed}"
            continue
        most_hours, most_usd = one.forecast.hours[1], one.forecast.usd[1]
        if alone := caps.above(1, most_hours, most_usd):
            above[one.shard] = alone
            left[one.shard] = f"alone more than {alone}: raise it"
            continue
        full = full or caps.above(len(taken) + 1, hours + most_hours, usd + most_usd)
        if full:
            left[one.shard] = f"waiting for another night, for {full} is reached"
        else:
            taken.append(one)
            hours, usd = hours + most_hours, usd + most_usd
    return Night(tuple(taken), left, above)
