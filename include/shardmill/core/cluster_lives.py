"""The clusters that a run has had for some work, and whether it may have another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shardmill.core import failures

ALIVE = ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING")
ENDED = ("TERMINATED", "TERMINATED_WITH_ERRORS")
MOST_CLUSTERS = 3
"""That come up one behind the other for the same work until the same deadline."""
MOST_OF_ALL = 12
"""Whatever their deadline, and whether they came up or not."""
CLEARED_AFTER = "cleared_after"
"""Tag that holds how many tries the task that creates the cluster had had when it was last cleared; 0 where never."""
SHORTEST_LIFE = timedelta(minutes=5)
"""No cluster is made for less: it would hardly be up."""


@dataclass(frozen=True)
class ClusterLife:
    """A cluster as EMR tells it, ended or not."""

    id: str
    state: str
    created: datetime
    ready: datetime | None = None
    """When it was up; None where it never was."""
    ended: datetime | None = None
    code: str = ""
    """Of the reason for its state, such as ``USER_REQUEST``."""
    message: str = ""
    error_codes: tuple[str, ...] = ()
    """Of its ErrorDetails."""
    log_uri: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether it can still work."""
        return self.state in ALIVE

    @property
    def deadline(self) -> datetime | None:
        """When it must be gone, by its tag; None where it has none."""
        tag = self.tags.get("deadline", "")
        return datetime.fromisoformat(tag) if tag else None

    @property
    def cleared_after(self) -> int:
        """Of which clearing of the run it is, as its tag tells."""
        return int(self.tags.get(CLEARED_AFTER) or 0)

    @property
    def diagnosis(self) -> failures.Diagnosis:
        """Why it ended."""
        return failures.of_cluster(self.code, self.message, self.error_codes)

    @property
    def words(self) -> str:
        """What became of it, in EMR's words."""
        why = ": ".join(part for part in (self.code, *self.error_codes, self.message) if part)
        return f"cluster {self.id} is {self.state}" + (f" ({why})" if why else "")


def last_made(lives: Sequence[ClusterLife]) -> ClusterLife | None:
    """Give the cluster that was made last; None where there is none."""
    return max(lives, key=lambda life: (life.created, life.id), default=None)


def agreed_deadline(lives: Sequence[ClusterLife]) -> datetime | None:
    """Give the deadline of the cluster that was made last; None where there is none."""
    last = last_made(lives)
    return last.deadline if last else None


def why_no_other(lives: Sequence[ClusterLife], now: datetime) -> str:
    """Say why a run gets no other cluster in place of those that ended; empty where it does.

    Args:
        lives: all that it had for this work, none of them alive.
        now: with its time zone.
    """
    deadline = agreed_deadline(lives)
    if deadline is None:
        return "no cluster of this run was made before: clear the task that creates it"
    if deadline - now < SHORTEST_LIFE:
        return (
            f"max_hours: the deadline {deadline.isoformat()} of the run's cluster is over, or nearly: no other is made"
        )
    # Those that were ended as surplus say that someone asked for it, but they ended before the one that worked.
    last = max(lives, key=lambda life: (life.ended or life.created, life.id))
    # One that never was up was ended by ourselves more likely than by anyone else: late, or as its task was killed.
    if last.diagnosis.policy == "fail" and (last.ready or last.code != "USER_REQUEST"):
        return failures.explain(f"{last.words}, no other is made", last.diagnosis)
    came_up = [life for life in lives if life.ready and life.deadline == deadline]
    if len(lives) >= MOST_OF_ALL:
        return failures.explain(f"{last.words}, the last of {len(lives)}: no other is made", last.diagnosis)
    if len(came_up) >= MOST_CLUSTERS:
        return failures.explain(f"{last.words}, as {len(came_up)} clusters did: no other is made", last.diagnosis)
    return ""
