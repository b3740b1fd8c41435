"""What clusters came to is counted node by node, at the prices of the plan."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shardmill.core.cost_rows import spent_lines
from shardmill.core.spent import Times, cluster_hours, merged, priced
from shardmill.specs.run import PlannedCluster, RunClusters
from shardmill.specs.spent import RunSpent, SpentCluster

T0 = datetime(2026, 11, 21, 1, tzinfo=UTC)


def at(hours: float) -> datetime:
    return T0 + timedelta(hours=hours)


def spent(**changed) -> SpentCluster:
    values = {"work": "train", "id": "j-1", "state": "TERMINATED", "created": "t1", "ended": "t2", "hours": 2.0}
    return SpentCluster(**(values | changed))


def planned(**node_usd: float | None) -> RunClusters:
    request = {"ReleaseLabel": "emr-7.13.0"}
    cluster = PlannedCluster(work="train", request=request, usd_an_hour=1.0, node_usd=node_usd, hours=(0.5, 3.0))
    return RunClusters(clusters=(cluster,), max_hours=6, prices="p")


def test_each_node_counts_from_its_own_launch_to_its_own_end():
    nodes = [
        ("a", Times(at(0.1), at(1.1))),
        ("a", Times(at(0.5), None)),  # ends with the cluster
        ("b spot", Times(at(0.2), at(9.0))),  # no node outlives its cluster
        ("b spot", Times(None, None)),  # was never launched
    ]
    hours, by_type = cluster_hours(Times(at(0), at(2)), nodes, at(5))
    assert hours == 2
    assert by_type == pytest.approx({"a": 1.0 + 1.5, "b spot": 1.8})


def test_a_cluster_that_is_alive_counts_until_now():
    hours, by_type = cluster_hours(Times(at(0), None), [("a", Times(at(1), None))], at(3))
    assert (hours, by_type) == (3, {"a": 2})


def test_a_node_counts_a_minute_at_least():
    _, by_type = cluster_hours(Times(at(0), at(1)), [("a", Times(at(0.5), at(0.5)))], at(1))
    assert by_type == {"a": pytest.approx(1 / 60)}


def test_a_cluster_without_any_node_cost_nothing():
    (cluster,) = priced([spent()], planned(a=1.0))
    assert (cluster.usd, cluster.unknown) == (0, ())


def test_hours_without_a_price_are_named_and_counted_nowhere():
    nodes = {"a": 2.0, "b": 3.0, "c spot": 4.0}
    (cluster,) = priced([spent(node_hours=nodes)], planned(a=0.5, b=None))
    assert cluster.usd == pytest.approx(1.0)
    assert cluster.unknown == ("b", "c spot")
    (unplanned,) = priced([spent(work="split", node_hours=nodes)], planned(a=0.5))
    assert (unplanned.usd, unplanned.unknown) == (0, ("a", "b", "c spot"))


def test_a_later_look_brings_a_cluster_up_to_date_and_forgets_none():
    before = RunSpent(clusters=(spent(id="j-1", ended="", hours=1.0), spent(id="j-0", created="t0")), looked="1")
    after = merged(before, [spent(id="j-1", hours=2.0), spent(id="j-2", created="t2")], "2")
    assert [(cluster.id, cluster.hours) for cluster in after.clusters] == [("j-0", 2.0), ("j-1", 2.0), ("j-2", 2.0)]
    assert after.alive == ()


def test_what_each_cluster_came_to_is_told_beside_what_was_expected():
    ran = RunSpent(clusters=(spent(usd=1.5), spent(id="j-2", ended="", state="WAITING", hours=0.5)), looked="now")
    assert list(spent_lines(planned(), ran)) == [
        "cluster to train: 2 h 00 min, 1.50 USD (j-1 TERMINATED); expected were 0.5 to 3 hours, 0.50 to 3.00 USD",
        "cluster to train: 30 min 00 s, 0.00 USD (j-2 WAITING, alive when this was written); expected were 0.5 to 3 "
        "hours, 0.50 to 3.00 USD",
        "cluster j-2 had not ended",
    ]
