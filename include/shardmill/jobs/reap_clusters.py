"""End clusters that nothing needs any more, and report what is alive and what was ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from shardmill.adapters import reaping, shared_value
from shardmill.adapters.clusters_page import render
from shardmill.adapters.reaping import FoundCluster
from shardmill.adapters.store import Store, StoreError
from shardmill.core.reaping import Cost, cost_of, deadline_of, decide, over_since, remembered, seen
from shardmill.specs.prices import Prices
from shardmill.specs.reaping import ClustersReport, EndedCluster, ReapSpec, RunState, Sightings, WatchedCluster

REPORT, PAGE = "reports/clusters.json", "reports/clusters.html"
SIGHTINGS = "reports/sightings.json"


def not_known(tags: Mapping[str, str]) -> RunState:
    """Say of every run that nothing is known of it."""
    return "unknown"


@dataclass(frozen=True)
class Look:
    """What a look at the clusters of an account and region takes."""

    emr: Any
    region: str
    prices: Prices
    run_state: Callable[[Mapping[str, str]], RunState] = not_known
    """Tells from a cluster's tags how its run is."""
    lake: Store | None = None
    """Where the looks before this one left what they saw; without, nothing is remembered."""
    now: datetime = field(default_factory=lambda: datetime.now(UTC))


def look(by: Look) -> ClustersReport:
    """Say what is alive, without ending or writing anything."""
    found, problems = reaping.clusters_alive(by.emr)
    states = {one.id: by.run_state(one.tags) for one in found}
    now = seen(Sightings(), states, by.now)
    return _report(by, [_costed(by, one, _watch(one, states[one.id], now)) for one in found], problems=problems)


def reap(asked: ReapSpec, by: Look) -> ClustersReport:
    """End what is to end, and report it beside what earlier looks ended.

    Neither instances that cannot be listed nor a lake that cannot be reached keep a cluster alive.
    """
    found, problems = reaping.clusters_alive(by.emr)
    # The runs are asked for behind the listing: the run of a cluster that is made meanwhile is live by then.
    states = {one.id: by.run_state(one.tags) for one in found}
    so_far = _add_look(by, states, problems)
    watched = [_watch(one, states[one.id], so_far) for one in found]
    reasons = decide(watched, asked, by.now)
    ends = {one.id: _end(by, one, dry_run=asked.dry_run) for one in found if one.id in reasons}
    costed = [_costed(by, *pair) for pair in zip(found, watched, strict=True)]
    ended = tuple(
        EndedCluster(cluster=one, at=by.now, why=reasons[one.id], how=ends[one.id][0], problem=ends[one.id][1])
        for one in costed
        if one.id in ends
    )
    problems += [f"{one.cluster.id} could not be ended: {one.problem}" for one in ended if one.how == "failed"]
    gone = {one.cluster.id for one in ended if one.how == "ended"}
    report = _report(by, [one for one in costed if one.id not in gone], problems=problems)
    return report.model_copy(update={"ended": ended})


def publish(report: ClustersReport, lake: Store) -> ClustersReport:
    """Write a report and its page over those of the last look; give it with what the looks before it ended."""

    def make(last: ClustersReport | None) -> ClustersReport:
        return report.model_copy(update={"earlier": remembered(last)})

    written, wrong = shared_value.change(lake, REPORT, ClustersReport, make)
    if wrong:
        problems = (*written.problems, f"the last report could not be used: {wrong}")
        written = written.model_copy(update={"problems": problems})
    lake.put(PAGE, render(written))
    return written


def _add_look(by: Look, states: Mapping[str, RunState], problems: list[str]) -> Sightings:
    """Give what all reapers of the lake saw, with this look; where the lake cannot be used, it is this look alone."""

    def add(before: Sightings | None) -> Sightings:
        return seen(before or Sightings(), states, by.now)

    if by.lake is None:
        return add(None)
    try:
        so_far, wrong = shared_value.change(by.lake, SIGHTINGS, Sightings, add)
    except StoreError as error:
        so_far, wrong = add(None), str(error)
    if wrong:
        problems.append(f"what was seen before cannot be used, so that every grace begins anew: {wrong}")
    return so_far


def _watch(found: FoundCluster, run_is: RunState, so_far: Sightings) -> WatchedCluster:
    return WatchedCluster(
        id=found.id,
        name=found.name,
        state=found.state,
        created=found.created,
        deadline=deadline_of(found.tags),
        run_is=run_is,
        over_since=over_since(run_is, so_far.clusters.get(found.id)),
        **{name: found.tags.get(name, "") for name in ("owner", "dag", "run", "work")},
    )


def _end(by: Look, found: FoundCluster, *, dry_run: bool) -> tuple[Any, str]:
    """Give how it went, and the problem. One cluster that cannot be ended must not keep others alive."""
    if dry_run:
        return "would end", ""
    try:
        reaping.end_cluster(by.emr, found)
    except reaping.AWS_ERRORS as error:
        return "failed", str(error)
    return "ended", ""


def _costed(by: Look, found: FoundCluster, watched: WatchedCluster) -> WatchedCluster:
    try:
        nodes = list(reaping.cluster_nodes(by.emr, found.id))
        cost = cost_of(nodes, found.volume_gib, (by.prices, by.region), by.now)
    except reaping.AWS_ERRORS as error:
        cost = Cost(0.0, 0.0, (f"{found.id}: its instances were not listed: {error}",))
    known = {"usd_so_far": cost.usd_so_far, "usd_an_hour": cost.usd_an_hour, "unknown": cost.unknown}
    return watched.model_copy(update=known)


def _report(by: Look, alive: list[WatchedCluster], *, problems: list[str]) -> ClustersReport:
    told = f"{by.prices.region}, {by.prices.as_of}: {by.prices.source}"
    return ClustersReport(at=by.now, region=by.region, prices=told, alive=tuple(alive), problems=tuple(problems))
