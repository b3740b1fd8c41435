"""What a garbage collection took away, or would."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Say = Callable[[str], None]


@dataclass(frozen=True)
class Gone:
    """Objects that went for the same reason."""

    objects: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Collected:
    """What a collection took away, or would have."""

    deleted: bool
    """Whether it did."""
    gone: Mapping[str, Gone]
    """By reason."""
    stayed: Mapping[str, str]
    """Why something was left alone that might be expected to go, by its name."""

    @property
    def objects(self) -> int:
        return sum(gone.objects for gone in self.gone.values())

    @property
    def bytes(self) -> int:
        return sum(gone.bytes for gone in self.gone.values())

    @property
    def summary(self) -> str:
        """The whole in a line."""
        verb = "deleted" if self.deleted else "would delete"
        reasons = ", ".join(f"{gone.objects} {why}" for why, gone in sorted(self.gone.items()))
        rest = f" ({reasons})" if reasons else ""
        left = f"; {len(self.stayed)} left alone" if self.stayed else ""
        return f"{verb} {self.objects} objects, {self.bytes / 1e6:,.1f} MB{rest}{left}"


class Tally:
    """Counts what goes, and says it."""

    def __init__(self, delete: bool, say: Say) -> None:
        self.delete = delete
        self._say = say
        self._gone: dict[str, Gone] = {}
        self._stayed: dict[str, str] = {}

    def go(self, why: str, objects: int, size: int, what: str) -> None:
        """Note objects that went, or would."""
        before = self._gone.get(why, Gone())
        self._gone[why] = Gone(before.objects + objects, before.bytes + size)
        verb = "deleted" if self.delete else "would delete"
        self._say(f"{verb} {what}: {why}, {objects} objects, {size:,} bytes")

    def stay(self, what: str, why: str) -> None:
        """Note what was left alone."""
        self._stayed[what] = why
        self._say(f"left alone {what}: {why}")

    def close(self) -> Collected:
        """Give the counts."""
        return Collected(self.delete, dict(self._gone), dict(self._stayed))
