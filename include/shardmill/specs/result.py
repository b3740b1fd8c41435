"""What a run came to, in numbers, for the report of the next run to be held against."""

from __future__ import annotations

from pydantic import Field

from shardmill.specs.value import Sealed


class RunResult(Sealed):
    """The numbers of a run's report, stored as ``runs/<run>/result.json`` by the report.

    It is written again until the run succeeded, and then only where another report finds another outcome.
    """

    state: str
    """`succeeded`, `failed`, `planned` or `unfinished`."""
    counts: dict[str, int] = Field(default_factory=dict)
    """By name: shards, videos, clips, rejects, bytes and the like."""
    rejects: dict[str, int] = Field(default_factory=dict)
    """By stage and reason."""
    seconds: dict[str, float] = Field(default_factory=dict)
    """By task, mapped ones in sum."""
    took: float | None = None
    """Wall seconds from the run's start to its report; None where nobody told."""
    usd: float | None = None
    """Of its clusters; None where it had none."""

    @property
    def outcome(self) -> tuple[str, dict[str, int], dict[str, int], float | None]:
        """All of it but the time it took."""
        return self.state, self.counts, self.rejects, self.usd
