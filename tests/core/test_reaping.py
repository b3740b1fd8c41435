"""Which clusters end, and what they cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardmill.core.reaping import (
    KEPT,
    REMEMBERED,
    Node,
    cost_of,
    deadline_of,
    decide,
    over_since,
    remembered,
    rows,
    seen,
    table,
)
from shardmill.specs.prices import Prices
from shardmill.specs.reaping import ClustersReport, EndedCluster, ReapSpec, Sightings, WatchedCluster

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
PRICES = Prices(
    region="us-east-1",
    as_of="2026-11",
    source="a test",
    instance_hour={"m5.xlarge": 0.2},
    emr_hour={"m5.xlarge": 0.05},
    volume_gib_month=0.073,
)


def hours(count: float) -> timedelta:
    return timedelta(hours=count)


def cluster(cluster_id: str = "j-1", **changed) -> WatchedCluster:
    values = {"id": cluster_id, "name": f"shardmill-{cluster_id}", "state": "RUNNING", "run_is": "live"}
    values |= {"created": NOW - hours(1), "deadline": NOW + hours(5), "run": f"dag.{cluster_id}"}
    return WatchedCluster(**values | changed)


def why(*clusters: WatchedCluster, **asked) -> dict[str, str]:
    return decide(clusters, ReapSpec(**asked), NOW)


def test_a_cluster_of_a_live_run_before_its_deadline_is_left_alone():
    assert why(cluster()) == {}


def test_a_cluster_past_its_deadline_ends_even_where_its_run_is_live():
    late = cluster(deadline=NOW - timedelta(minutes=3))
    assert why(late) == {"j-1": "its deadline was 2026-11-21 11:57"}


def test_a_run_has_two_minutes_after_the_deadline_to_end_its_cluster_in_order():
    assert why(cluster(deadline=NOW - timedelta(seconds=119))) == {}


@pytest.mark.parametrize(("seen_minutes", "ends"), [(9, False), (10, True), (600, True)])
def test_a_cluster_whose_run_is_over_ends_after_the_grace(seen_minutes, ends):
    over = cluster(run_is="over", over_since=NOW - timedelta(minutes=seen_minutes))
    assert bool(why(over)) is ends


def test_a_cluster_of_a_run_that_this_airflow_does_not_know_is_left_alone_until_its_deadline():
    unknown = cluster(run_is="unknown", over_since=NOW - hours(20))
    assert why(unknown) == {}
    assert "no run of this Airflow" in why(unknown, end_unknown=True)["j-1"]
    assert "deadline" in why(unknown.model_copy(update={"deadline": NOW - hours(1)}))["j-1"]


def test_of_clusters_of_one_name_the_oldest_stays_and_the_others_end_at_once():
    first = cluster("j-9", name="shardmill-r", created=NOW - timedelta(seconds=70))
    second, third = (cluster(name, name="shardmill-r", created=NOW - timedelta(seconds=60)) for name in ("j-2", "j-3"))
    other = cluster("j-4", created=NOW)
    ended = why(third, other, second, first)
    assert set(ended) == {"j-2", "j-3"}
    assert ended["j-2"] == "surplus: j-9 has the same name and is older"


def test_clusters_of_one_name_and_one_second_are_told_apart_by_id_as_the_tasks_do():
    assert set(why(cluster("j-B", name="n"), cluster("j-A", name="n"))) == {"j-B"}


def test_a_cluster_without_a_deadline_ends_at_an_age():
    forgotten = cluster(deadline=None, created=NOW - hours(25))
    assert why(forgotten) == {"j-1": "it has no deadline and is older than 24 h"}
    assert why(forgotten, hours_without_deadline=48) == {}


@given(
    st.lists(
        st.builds(
            cluster,
            st.sampled_from(["j-1", "j-2", "j-3", "j-4"]),
            name=st.sampled_from(["a", "b"]),
            created=st.integers(0, 100).map(lambda minutes: NOW - timedelta(minutes=minutes)),
        ),
        unique_by=lambda one: one.id,
    )
)
def test_however_many_have_a_name_exactly_one_of_them_stays(clusters):
    stays = [one.name for one in clusters if one.id not in why(*clusters)]
    assert sorted(stays) == sorted({one.name for one in clusters})


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("2026-11-21T12:00:00+00:00", NOW),
        ("2026-11-21T13:00:00+01:00", NOW),
        ("2026-11-21T12:00:00", NOW),
        ("soon", None),
        ("", None),
    ],
)
def test_a_deadline_is_read_in_utc_and_an_unreadable_one_is_none(tag, expected):
    assert deadline_of({"deadline": tag}) == expected


def sightings(*looks: tuple[str, datetime]) -> Sightings:
    """Give what looks saw of j-1, each with how it found its run."""
    found = Sightings()
    for run_is, moment in looks:
        found = seen(found, {"j-1": run_is}, moment)
    return found


def since(run_is: str, *looks: tuple[str, datetime]) -> datetime | None:
    return over_since(run_is, sightings(*looks).clusters["j-1"])


def test_a_run_is_over_since_the_first_of_the_looks_that_found_it_so():
    assert since("over", ("over", NOW - hours(1)), ("over", NOW)) == NOW - hours(1)
    assert since("over", ("over", NOW)) == NOW
    assert since("live", ("over", NOW - hours(1)), ("live", NOW)) is None
    assert since("over", ("over", NOW - hours(2)), ("live", NOW - hours(1)), ("over", NOW)) == NOW
    assert over_since("over", None) is None


def test_a_reaper_that_does_not_know_the_run_begins_no_grace_of_another_one_anew():
    looks = [("over", NOW - hours(2)), ("unknown", NOW - hours(1)), ("over", NOW)]
    assert since("over", *looks) == NOW - hours(2)
    assert since("unknown", *looks) == NOW - hours(1)


def test_of_two_reapers_whose_clocks_differ_the_earlier_time_counts():
    assert since("over", ("over", NOW), ("over", NOW - timedelta(minutes=2))) == NOW - timedelta(minutes=2)


def test_that_a_run_lives_clears_what_those_saw_that_do_not_know_it():
    assert since("unknown", ("unknown", NOW - hours(2)), ("live", NOW - hours(1)), ("unknown", NOW)) == NOW


def test_what_one_look_does_not_find_is_remembered_for_a_week():
    before = sightings(("over", NOW - REMEMBERED + timedelta(minutes=1)))
    assert set(seen(before, {"j-2": "over"}, NOW).clusters) == {"j-1", "j-2"}
    assert set(seen(before, {"j-2": "over"}, NOW + timedelta(minutes=1)).clusters) == {"j-2"}


def test_nodes_cost_from_their_own_start_to_their_own_end():
    nodes = [
        Node("m5.xlarge", "ON_DEMAND", NOW - hours(2), None),
        Node("m5.xlarge", "ON_DEMAND", NOW - hours(2), NOW - hours(1.5)),
    ]
    cost = cost_of(nodes, 100, (PRICES, "us-east-1"), NOW)
    assert cost.usd_an_hour == pytest.approx(0.26)
    assert cost.usd_so_far == pytest.approx(0.26 * 2.5)
    assert cost.unknown == ()


def test_what_has_no_price_is_named_once_and_counts_nothing():
    nodes = [Node(kind, "ON_DEMAND", NOW - hours(1), None) for kind in ("m5.xlarge", "g7.xlarge", "g7.xlarge")]
    cost = cost_of(nodes, 100, (PRICES, "us-east-1"), NOW)
    assert cost.unknown == ("instance_hour.g7.xlarge", "emr_hour.g7.xlarge")
    # The volumes of all three are priced, the instances of one.
    assert cost.usd_an_hour == pytest.approx(0.25 + 3 * 0.01)


def test_prices_of_another_region_are_none():
    (place,) = cost_of([Node("m5.xlarge", "ON_DEMAND", NOW, None)], 15, (PRICES, "eu-west-1"), NOW).unknown
    assert "us-east-1" in place
    assert "eu-west-1" in place


def ended(number: int, how: str = "ended") -> EndedCluster:
    return EndedCluster(cluster=cluster(f"j-{number}"), at=NOW, why="surplus", how=how)


def report(**values) -> ClustersReport:
    return ClustersReport(**{"at": NOW, "region": "us-east-1", "prices": "a test", "alive": ()} | values)


def test_a_report_remembers_what_was_ended_but_not_for_ever_nor_what_would_have_been():
    last = report(ended=(ended(1), ended(2, "would end")), earlier=tuple(ended(100 + n) for n in range(KEPT)))
    kept = remembered(last)
    assert [one.cluster.id for one in kept[:2]] == ["j-1", "j-100"]
    assert len(kept) == KEPT
    assert remembered(None) == ()


def test_the_table_says_whose_since_when_and_what_it_costs():
    known = cluster(owner="ann", work="train", usd_so_far=1.234, usd_an_hour=0.5, created=NOW - hours(2))
    dear = cluster("j-2", usd_so_far=1, unknown=("instance_hour.g7.xlarge",), deadline=None)
    found = report(alive=(dear, known), ended=(ended(3), ended(4, "failed")), problems=("j-4 could not be ended",))
    first, second = rows(found)
    assert first == (
        *("j-1", "RUNNING", "ann / dag.j-1 / train", "2026-11-21 10:00"),
        *("2.0", "1.23", "0.50", "2026-11-21 17:00", "live"),
    )
    assert second[5] == "1.00 + ?"
    assert second[7] == "none"
    lines = "\n".join(table(found))
    assert "ended: j-3 of dag.j-3, surplus; it cost 0.00 USD" in lines
    assert "NOT ended: j-4" in lines
    assert "no price known for instance_hour.g7.xlarge" in lines
    assert "j-4 could not be ended" in lines


def test_the_summary_counts_what_is_alive_and_names_what_was_ended():
    found = report(alive=(cluster(usd_so_far=2, usd_an_hour=0.5),), ended=(ended(3), ended(4, "failed")))
    assert found.summary == "1 cluster alive, 2.00 USD so far, 0.50 USD an hour; ended j-3 (surplus)"
    assert report().summary == "0 clusters alive"
    assert report(ended=(ended(3, "would end"),)).summary == "0 clusters alive; would end j-3 (surplus)"
