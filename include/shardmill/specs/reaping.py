"""What a reaping of clusters asks, and what it reports. The trigger form is made from ReapSpec."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, Field

from shardmill.specs.notify import NotifySpec
from shardmill.specs.value import OptionalUri, Sealed, Spec, in_section

RunState = Literal["live", "over", "unknown"]
"""Of the run that a cluster works for: queued or running; ended; or not one that this Airflow knows."""


class ReapSpec(NotifySpec):
    """End clusters that nothing needs any more, and report those that are alive."""

    lake: OptionalUri = in_section("Where", "")
    """Folder in which the report is written, below `reports/`; empty for the first lake of this installation."""
    prices: OptionalUri = in_section("Where", "")
    """Price file; empty for the one that comes with Shardmill."""

    grace_minutes: int = in_section("What", 10, title="Grace (minutes)", ge=0, le=1440)
    """A cluster whose run is over ends when it was seen so for so long."""
    hours_without_deadline: float = in_section(
        "What", 24.0, title="Age at most without a deadline (hours)", gt=0, le=8760
    )
    """A cluster of ours without a readable deadline ends at this age."""
    end_unknown: bool = in_section("What", False, title="End clusters of unknown runs")
    """End clusters too whose run this Airflow does not know, after the same grace. Only where no other Airflow makes
    clusters in this account and region; otherwise such a cluster stays until its deadline."""

    dry_run: bool = in_section("Guards", False, title="Dry run")
    """End nothing; the log and the report say what would end."""


class WatchedCluster(Spec):
    """A cluster of ours as it was seen."""

    id: str
    name: str
    state: str
    created: AwareDatetime
    deadline: AwareDatetime | None = None
    """None where its tag is absent or unreadable."""
    owner: str = ""
    dag: str = ""
    run: str = ""
    work: str = ""
    run_is: RunState = "unknown"
    over_since: AwareDatetime | None = None
    """Since when every look that told found the run like this; None for a live one."""
    usd_so_far: float = Field(0.0, ge=0)
    """As far as prices are known."""
    usd_an_hour: float = Field(0.0, ge=0)
    """Of the nodes that it has now."""
    unknown: tuple[str, ...] = ()
    """What has no price."""


class Sighting(Spec):
    """How the run of a cluster was found by all reapers of a lake together."""

    over: AwareDatetime | None = None
    """When it was first found over; None where it was not since it last was live."""
    unknown: AwareDatetime | None = None
    """When an Airflow that does not know it first looked; None likewise."""
    last: AwareDatetime
    """When the cluster was seen last."""


class Sightings(Sealed):
    """What the reapers of a lake saw, stored as ``reports/sightings.json`` in it, by the id of the cluster."""

    clusters: dict[str, Sighting] = Field(default_factory=dict)


class EndedCluster(Spec):
    """A cluster whose end was asked for, or would have been."""

    cluster: WatchedCluster
    at: AwareDatetime
    why: str
    how: Literal["ended", "would end", "failed"]
    problem: str = ""
    """Why it could not be ended."""


class ClustersReport(Sealed):
    """The clusters of ours in one account and region, stored as ``reports/clusters.json`` in the lake."""

    at: AwareDatetime
    region: str
    prices: str
    """Where the prices come from, and of which day and region they are."""
    alive: tuple[WatchedCluster, ...]
    ended: tuple[EndedCluster, ...] = ()
    """By this look."""
    earlier: tuple[EndedCluster, ...] = ()
    """By looks before it, the last first."""
    problems: tuple[str, ...] = ()
    """What could not be looked at or ended."""

    @property
    def summary(self) -> str:
        """What is alive and what was ended, in a line."""
        alive, ended = len(self.alive), [one for one in self.ended if one.how != "failed"]
        so_far, hourly = (sum(getattr(one, name) for one in self.alive) for name in ("usd_so_far", "usd_an_hour"))
        line = f"{alive} {'cluster' if alive == 1 else 'clusters'} alive"
        if alive:
            known = ", and what has no price" if any(one.unknown for one in self.alive) else ""
            line += f", {so_far:.2f} USD so far, {hourly:.2f} USD an hour{known}"
        if ended:
            line += f"; {ended[0].how if ended[0].how == 'would end' else 'ended'} " + ", ".join(
                f"{one.cluster.id} ({one.why})" for one in ended
            )
        return line + (f"; {len(self.problems)} problems" if self.problems else "")
