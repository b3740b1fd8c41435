"""Decide which clusters end, and count what they cost so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from shardmill.core.costs import bill_of
from shardmill.specs.prices import Prices
from shardmill.specs.reaping import (
    ClustersReport,
    EndedCluster,
    ReapSpec,
    RunState,
    Sighting,
    Sightings,
    WatchedCluster,
)

TAG, OURS = "shardmill", "run"
"""Clusters without this tag and value are never touched."""
ORDERLY = timedelta(minutes=2)
"""Left to a run after a cluster's deadline to end it in order: its step is cancelled at the deadline."""
REMEMBERED = timedelta(days=7)
"""What was seen of a cluster that nobody sees any more."""
KEPT = 100
"""Ended clusters that a report remembers."""


def deadline_of(tags: Mapping[str, str]) -> datetime | None:
    """Read from a cluster's tags when it must be gone; without a zone it is UTC, unreadable it is none."""
    try:
        found = datetime.fromisoformat(tags.get("deadline", ""))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def seen(before: Sightings, run_states: Mapping[str, RunState], now: datetime) -> Sightings:
    """Add a look to what all reapers of a lake saw so far.

    Each look tells only what its own Airflow knows: that a run is live clears what was seen of it before, by whomever;
    that it is over, or not known, neither clears nor moves what another one saw. A cluster that this look did not
    find, say of another region, is kept for a week.

    Args:
        run_states: of the clusters that this look found, by their ids.
    """
    kept = {name: one for name, one in before.clusters.items() if now - one.last < REMEMBERED}
    return Sightings(clusters=kept | {name: _sighting(kept.get(name), run, now) for name, run in run_states.items()})


def _sighting(before: Sighting | None, run_is: RunState, now: datetime) -> Sighting:
    if run_is == "live":
        return Sighting(last=now)
    known = {name: moment for name in ("over", "unknown") if (moment := getattr(before, name, None))}
    return Sighting(**known | {run_is: min(now, known.get(run_is, now)), "last": now})


def over_since(run_is: RunState, sighting: Sighting | None) -> datetime | None:
    """Tell since when a cluster's run is seen as it is; None for a live one."""
    return None if run_is == "live" or sighting is None else getattr(sighting, run_is)


def decide(clusters: Sequence[WatchedCluster], asked: ReapSpec, now: datetime) -> dict[str, str]:
    """Choose which of our clusters end, all of them alive.

    Returns:
        Why each ends, by its id.
    """
    oldest: dict[str, WatchedCluster] = {}
    for cluster in sorted(clusters, key=lambda one: (one.created, one.id)):
        oldest.setdefault(cluster.name, cluster)
    reasons = {cluster.id: _why(cluster, oldest[cluster.name], asked, now) for cluster in clusters}
    return {cluster_id: why for cluster_id, why in reasons.items() if why}


def _why(cluster: WatchedCluster, oldest: WatchedCluster, asked: ReapSpec, now: datetime) -> str:
    if cluster.deadline is not None and now > cluster.deadline + ORDERLY:
        return f"its deadline was {_minute(cluster.deadline)}"
    if cluster.id != oldest.id:
        # Tasks join the oldest of a name, so that nothing runs on the others.
        return f"surplus: {oldest.id} has the same name and is older"
    seen = cluster.over_since
    if seen is not None and now - seen >= timedelta(minutes=asked.grace_minutes):
        if cluster.run_is == "over":
            return f"its run is over, seen since {_minute(seen)}"
        if asked.end_unknown:
            return f"no run of this Airflow has it, seen since {_minute(seen)}"
    if cluster.deadline is None and now - cluster.created > timedelta(hours=asked.hours_without_deadline):
        return f"it has no deadline and is older than {asked.hours_without_deadline:g} h"
    return ""


@dataclass(frozen=True)
class Node:
    """An instance of a cluster and the time that it is paid for."""

    instance_type: str
    market: str
    """``ON_DEMAND`` or ``SPOT``."""
    started: datetime
    ended: datetime | None
    """None while it runs."""


@dataclass(frozen=True)
class Cost:
    """What a cluster cost so far, as far as prices are known."""

    usd_so_far: float
    usd_an_hour: float
    unknown: tuple[str, ...] = ()


def cost_of(nodes: Sequence[Node], volume_gib: int, where: tuple[Prices, str], now: datetime) -> Cost:
    """Sum up what nodes cost, each from its own start to its own end.

    Args:
        volume_gib: size of each node's root volume.
        where: prices, and the region in which the cluster runs.
    """
    so_far, hourly = 0.0, 0.0
    unknown: list[str] = []
    for node in nodes:
        group = {"Name": "node", "InstanceType": node.instance_type, "InstanceCount": 1, "Market": node.market}
        bill = bill_of({"EbsRootVolumeSize": volume_gib, "Instances": {"InstanceGroups": [group]}}, *where)
        so_far += bill.usd_an_hour * max(0.0, ((node.ended or now) - node.started).total_seconds()) / 3600
        hourly += 0.0 if node.ended else bill.usd_an_hour
        unknown += bill.unknown
    return Cost(so_far, hourly, tuple(dict.fromkeys(unknown)))


def remembered(report: ClustersReport | None) -> tuple[EndedCluster, ...]:
    """Give what a report knows to be ended, the last first."""
    if report is None:
        return ()
    return (*(one for one in report.ended if one.how == "ended"), *report.earlier)[:KEPT]


HEADINGS = ("cluster", "state", "whose", "since", "hours", "USD so far", "USD an hour", "deadline", "its run")


def rows(report: ClustersReport) -> Iterator[tuple[str, ...]]:
    """Write the clusters that are alive as rows of a table, the oldest first, as HEADINGS name its columns."""
    for one in sorted(report.alive, key=lambda cluster: (cluster.created, cluster.id)):
        unpriced = " + ?" if one.unknown else ""
        yield (
            one.id,
            one.state,
            whose(one),
            _minute(one.created),
            f"{(report.at - one.created).total_seconds() / 3600:.1f}",
            f"{one.usd_so_far:.2f}{unpriced}",
            f"{one.usd_an_hour:.2f}{unpriced}",
            _minute(one.deadline) if one.deadline else "none",
            one.run_is,
        )


def whose(cluster: WatchedCluster) -> str:
    """Name a cluster's owner and what it works for."""
    known = (cluster.owner, cluster.run or cluster.name, cluster.work)
    return " / ".join(part for part in known if part)


def table(report: ClustersReport) -> Iterator[str]:
    """Write a report as lines of text."""
    if report.alive:
        cells = [HEADINGS, *rows(report)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS))]
        for row in cells:
            yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for one in report.ended:
        known = ", and what has no price" if one.cluster.unknown else ""
        cost = f"it cost {one.cluster.usd_so_far:.2f} USD{known}"
        told = f": {one.problem}" if one.problem else ""
        yield f"{'NOT ended' if one.how == 'failed' else one.how}: {one.cluster.id} of {whose(one.cluster)}, " + (
            f"{one.why}; {cost}{told}"
        )
    for place in dict.fromkeys(place for one in report.alive for place in one.unknown):
        yield f"no price known for {place}"
    yield from report.problems


def _minute(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
