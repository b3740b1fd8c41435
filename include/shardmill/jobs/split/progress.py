"""How far a shard is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from shardmill.specs.manifest import Reject, Video

SECONDS_BETWEEN = 10.0
_MEGABYTE = 1_000_000


@dataclass
class Progress:
    """Counts what was done, and says so now and then."""

    shard: int
    total: int
    """Bytes of the shard."""
    tell: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    videos: int = 0
    clips: int = 0
    refused: int = 0
    _started: float = field(init=False)
    _told: float = field(init=False)
    _first: int | None = None

    def __post_init__(self) -> None:
        self._started = self._told = self.clock()

    def add(self, done: Video | Reject, offset: int) -> None:
        """Count a sample.

        Args:
            offset: bytes of the shard before it.
        """
        if isinstance(done, Video):
            self.videos += 1
            self.clips += done.clips
        else:
            self.refused += 1
        self._first = offset if self._first is None else self._first
        now = self.clock()
        if now - self._told >= SECONDS_BETWEEN:
            self._told = now
            self.tell(self.line(offset))

    def line(self, offset: int) -> str:
        """Say it in a line: videos, clips, megabytes, clips a second, and how long it will take still."""
        seconds = max(self.clock() - self._started, 1e-9)
        done = offset - (self._first or 0)
        left = f", {_duration(seconds / done * (self.total - offset))} left" if done > 0 else ""
        refused = f" ({self.refused} refused)" if self.refused else ""
        return (
            f"shard {self.shard:06d}: {self.videos} videos{refused}, {self.clips} clips, "
            f"{offset / _MEGABYTE:.0f} of {self.total / _MEGABYTE:.0f} MB, {self.clips / seconds:.1f} clips/s{left}"
        )


def _duration(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
