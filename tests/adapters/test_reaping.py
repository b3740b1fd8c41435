"""A look at the clusters of an account: what is found, what is ended, what is reported."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from shardmill.adapters import reaping
from shardmill.adapters.clusters_page import render
from shardmill.adapters.prices import read_prices
from shardmill.adapters.store import Store, StoreError, StoreSettings, read_sealed
from shardmill.core.emr_request import cluster_request
from shardmill.jobs.reap_clusters import PAGE, REPORT, SIGHTINGS, Look, look, publish, reap
from shardmill.specs.cluster import ClusterSpec
from shardmill.specs.reaping import ClustersReport, ReapSpec

ASKED = ReapSpec()
START = SimpleNamespace(of_test=datetime.now(UTC))
"""Tests count from their own start: it may come minutes after the module was read."""


@pytest.fixture
def emr(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    START.of_test = datetime.now(UTC)
    with mock_aws():
        yield boto3.client("emr", region_name="us-east-1")


@pytest.fixture
def make(emr):
    def make_cluster(run: str = "dag.r1", *, hours: float = 6.0, **changed) -> str:
        spec = ClusterSpec(
            name=f"shardmill-{run}",
            run=run,
            image_id="ami-0123456789abcdef0",
            log_uri="s3://l/logs",
            deadline=(START.of_test + timedelta(hours=hours)).isoformat(timespec="seconds"),
        )
        return emr.run_job_flow(**cluster_request(spec) | changed)["JobFlowId"]

    return make_cluster


@pytest.fixture
def lake(tmp_path):
    return Store(f"file://{tmp_path / 'lake'}", create=True)


def by(emr, lake=None, *, run_is="live", minutes=1.0) -> Look:
    prices = read_prices("")
    return Look(emr, "us-east-1", prices, lambda tags: run_is, lake, START.of_test + timedelta(minutes=minutes))


def alive(emr) -> list[str]:
    return [one.id for one in reaping.clusters_alive(emr)[0]]


def test_only_clusters_with_our_tag_are_found(emr, make):
    mine = make()
    make("dag.r2", Tags=[{"Key": "shardmill", "Value": "no"}])
    make("dag.r3", Tags=[])
    (found,), problems = reaping.clusters_alive(emr)
    assert (found.id, found.name, found.tags["run"], found.volume_gib) == (mine, "shardmill-dag.r1", "dag.r1", 40)
    assert problems == []


def test_a_cluster_past_its_deadline_is_ended_and_what_it_cost_is_told(emr, make):
    late, fine = make(hours=1), make("dag.r2", hours=5)
    report = reap(ASKED, by(emr, minutes=90))
    assert [one.cluster.id for one in report.ended] == [late]
    assert [one.id for one in report.alive] == [fine]
    assert alive(emr) == [fine]
    assert report.ended[0].why.startswith("its deadline was ")
    # One m5.xlarge, two g4dn.xlarge, their fees and volumes, for an hour and a half.
    hourly = 0.24 + 2 * 0.6575 + 3 * 40 * 0.08 / 730
    assert report.ended[0].cluster.usd_so_far == pytest.approx(1.5 * hourly, rel=0.01)


def test_a_protected_cluster_is_ended_too(emr, make):
    late = make(hours=1)
    emr.set_termination_protection(JobFlowIds=[late], TerminationProtected=True)
    reap(ASKED, by(emr, minutes=90))
    assert alive(emr) == []


def test_a_surplus_is_ended_by_the_look_that_finds_it(emr, make):
    first, second = make(), make()
    report = reap(ASKED, by(emr))
    (left,) = alive(emr)
    assert {left, report.ended[0].cluster.id} == {first, second}
    assert "surplus" in report.ended[0].why


def test_a_cluster_whose_run_is_over_is_ended_by_a_later_look_that_still_finds_it_so(emr, make, lake):
    over = make()
    for minutes in (1, 10.9):
        report = reap(ASKED, by(emr, lake, run_is="over", minutes=minutes))
        assert report.ended == ()
        publish(report, lake)
    report = reap(ASKED, by(emr, lake, run_is="over", minutes=11.1))
    assert [one.cluster.id for one in report.ended] == [over]
    assert alive(emr) == []


def test_a_run_that_lives_again_begins_its_grace_anew(emr, make, lake):
    make()
    for minutes, run_is in ((1, "over"), (8, "live"), (15, "over")):
        report = reap(ASKED, by(emr, lake, run_is=run_is, minutes=minutes))
        publish(report, lake)
        assert report.ended == ()
    assert len(alive(emr)) == 1


def test_two_reapers_that_share_a_lake_prolong_nothing_for_one_another(emr, make, lake):
    over = make()
    looks = [(1, "over"), (6, "unknown"), (8, "over"), (10.9, "unknown")]
    for minutes, run_is in looks:
        assert reap(ASKED, by(emr, lake, run_is=run_is, minutes=minutes)).ended == ()
    report = reap(ASKED, by(emr, lake, run_is="over", minutes=11.1))
    assert [one.cluster.id for one in report.ended] == [over]


def test_a_reaper_of_another_region_forgets_nothing_of_this_one(emr, make, lake):
    over = make()
    reap(ASKED, by(emr, lake, run_is="over", minutes=1))
    elsewhere = boto3.client("emr", region_name="eu-west-1")
    publish(reap(ASKED, by(elsewhere, lake, minutes=5)), lake)
    report = reap(ASKED, by(emr, lake, run_is="over", minutes=11.1))
    assert [one.cluster.id for one in report.ended] == [over]


def test_a_look_that_another_one_overtook_is_added_to_what_that_one_saw(emr, make, lake, monkeypatch):
    over = make()
    swap, raced = Store.swap, []

    def overtaken(store, key, content, expected):
        if key == SIGHTINGS and not raced:
            raced.append(key)
            reap(ASKED, by(emr, lake, run_is="over", minutes=1))
        return swap(store, key, content, expected)

    monkeypatch.setattr(Store, "swap", overtaken)
    reap(ASKED, by(emr, lake, run_is="unknown", minutes=1))
    assert raced == [SIGHTINGS]
    report = reap(ASKED, by(emr, lake, run_is="over", minutes=11.1))
    assert [one.cluster.id for one in report.ended] == [over]


def test_what_two_looks_at_once_ended_is_in_the_report_of_both(emr, make, lake):
    first = make(hours=1)
    one = reap(ASKED, by(emr, lake, minutes=90))
    second = make("dag.r2", hours=1)
    two = reap(ASKED, by(emr, lake, minutes=91))
    publish(two, lake)
    written = publish(one, lake)
    assert [end.cluster.id for end in written.ended + written.earlier] == [first, second]


def test_a_dry_run_ends_nothing_and_says_what_would_end(emr, make):
    late = make(hours=1)
    report = reap(ReapSpec(dry_run=True), by(emr, minutes=90))
    assert [one.how for one in report.ended] == ["would end"]
    assert [one.id for one in report.alive] == [late]
    assert alive(emr) == [late]


def test_the_report_in_the_lake_remembers_what_looks_before_it_ended(emr, make, lake):
    late = make(hours=1)
    publish(reap(ASKED, by(emr, lake, minutes=90)), lake)
    publish(reap(ASKED, by(emr, lake, minutes=105)), lake)
    report = read_sealed(lake, REPORT, ClustersReport)
    assert report.ended == ()
    assert [one.cluster.id for one in report.earlier] == [late]
    page = lake.get(PAGE).decode()
    assert late in page
    assert "its deadline was" in page


class Refusing:
    """EMR that refuses some operation for one cluster."""

    def __init__(self, emr, operation: str, cluster_id: str) -> None:
        self._emr, self._operation, self._cluster_id = emr, operation, cluster_id

    def __getattr__(self, name):
        if name != self._operation:
            return getattr(self._emr, name)

        def refuse(**request):
            if self._cluster_id in (request.get("ClusterId"), *request.get("JobFlowIds", ())):
                raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "not allowed"}}, name)
            return getattr(self._emr, name)(**request)

        return refuse


def test_a_cluster_that_cannot_be_ended_keeps_no_other_alive_and_is_told(emr, make):
    stuck, late = make(hours=1), make("dag.r2", hours=1)
    report = reap(ASKED, by(Refusing(emr, "terminate_job_flows", stuck), minutes=90))
    assert alive(emr) == [stuck]
    assert {one.cluster.id: one.how for one in report.ended} == {stuck: "failed", late: "ended"}
    assert [one.id for one in report.alive] == [stuck]
    assert any(stuck in problem and "not allowed" in problem for problem in report.problems)


def test_a_cluster_that_cannot_be_described_keeps_no_other_alive_and_is_told(emr, make):
    hidden, _ = make(hours=1), make("dag.r2", hours=1)
    report = reap(ASKED, by(Refusing(emr, "describe_cluster", hidden), minutes=90))
    assert alive(emr) == [hidden]
    assert [problem.split()[0] for problem in report.problems] == [hidden]


def test_a_damaged_report_and_a_lake_that_is_not_there_keep_no_cluster_alive(emr, make, lake):
    make(hours=1)
    lake.put(REPORT, b'{"alive": []}')
    lake.put(SIGHTINGS, b'{"clusters": 1}')
    report = reap(ASKED, by(emr, lake, minutes=90))
    assert alive(emr) == []
    assert "what was seen before cannot be used" in report.problems[0]
    assert "the last report could not be used" in publish(report, lake).problems[1]
    assert publish(reap(ASKED, by(emr, lake, minutes=91)), lake).problems == ()

    make("dag.r2", hours=1)
    gone = Store("s3://b/lake", StoreSettings("http://127.0.0.1:9", "us-east-1", "testing", "testing"))
    report = reap(ASKED, by(emr, gone, minutes=90))
    assert alive(emr) == []
    with pytest.raises(StoreError):
        publish(report, gone)


def test_a_look_ends_and_writes_nothing(emr, make):
    late = make(hours=1)
    assert [one.id for one in look(by(emr, minutes=90)).alive] == [late]
    assert alive(emr) == [late]


def test_tags_are_escaped_in_the_page(emr, make):
    make(Tags=[{"Key": "shardmill", "Value": "run"}, {"Key": "owner", "Value": "<script>alert(1)</script>"}])
    page = render(look(by(emr))).decode()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
