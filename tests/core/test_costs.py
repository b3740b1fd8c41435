"""What clusters may cost, and when that is too much."""

from __future__ import annotations

import pytest

from shardmill.core.costs import BudgetError, bill_of, check_budget, check_hours
from shardmill.core.emr_request import cluster_request
from shardmill.core.requested_nodes import NodeType
from shardmill.specs.cluster import ClusterSpec
from shardmill.specs.prices import Prices
from shardmill.specs.run import PlannedCost

PRICES = Prices(
    region="us-east-1",
    as_of="2026-11",
    source="a test",
    instance_hour={"m5.xlarge": 0.2, "g4dn.xlarge": 0.5, "g5.xlarge": 1.0},
    emr_hour={"m5.xlarge": 0.05, "g4dn.xlarge": 0.1, "g5.xlarge": 0.25},
    spot_hour={"g4dn.xlarge": 0.2, "g5.xlarge": 0.3},
    volume_gib_month=0.073,
)


def request_of(**changed):
    values = {
        "name": "shardmill-r1",
        "run": "r1",
        "image_id": "ami-0123456789abcdef0",
        "log_uri": "s3://b/logs",
        "deadline": "2026-11-21T12:00:00+00:00",
        "root_volume_gib": 100,
        "core_count": 3,
    }
    return cluster_request(ClusterSpec(**(values | changed)))


REQUEST = request_of()
PRIMARY, CORE = 1 * (0.2 + 0.05 + 0.01), 3 * (0.5 + 0.1 + 0.01)
TRAFFIC = PlannedCost(what="traffic from gs://b", amount=(10, 20), unit="GiB", usd=(1.0, 2.0), rests_on="a test")


@pytest.mark.parametrize("nodes", ["groups", "fleets"])
def test_a_cluster_costs_its_nodes_the_fee_of_emr_and_their_volumes(nodes):
    bill = bill_of(request_of(nodes=nodes), PRICES, "us-east-1")
    assert bill.usd_an_hour == pytest.approx(PRIMARY + CORE)
    assert bill.unknown == ()
    assert bill.lines == ("1 × m5.xlarge (primary): 0.260 USD an hour", "3 × g4dn.xlarge (core): 1.830 USD an hour")
    assert bill.between((0.5, 2)) == pytest.approx((1.045, 4.18))
    assert bill.node_usd == pytest.approx({"m5.xlarge": 0.26, "g4dn.xlarge": 0.61})


def test_volumes_that_emr_adds_to_nodes_without_disks_cost_too():
    types = {"m5.xlarge": NodeType(4, own_disks=False), "g4dn.xlarge": NodeType(4, own_disks=True)}
    bill = bill_of(REQUEST, PRICES, "us-east-1", types)
    assert bill.usd_an_hour == pytest.approx(PRIMARY + CORE + 16 * 4 * 0.073 / 730)


def test_volumes_that_the_request_adds_take_the_place_of_those():
    volumes = [{"VolumeSpecification": {"VolumeType": "gp3", "SizeInGB": 50}, "VolumesPerInstance": 2}]
    request = request_of()
    primary = request["Instances"]["InstanceGroups"][0]
    primary["EbsConfiguration"] = {"EbsBlockDeviceConfigs": volumes}
    bill = bill_of(request, PRICES, "us-east-1", {"m5.xlarge": NodeType(4, own_disks=False)})
    assert bill.usd_an_hour == pytest.approx(PRIMARY + CORE + 100 * 0.073 / 730)


def test_spot_nodes_cost_from_their_expected_price_to_that_on_demand():
    bill = bill_of(request_of(spot_count=2), PRICES, "us-east-1")
    assert bill.least_usd_an_hour == pytest.approx(PRIMARY + CORE + 2 * (0.2 + 0.1 + 0.01))
    assert bill.usd_an_hour == pytest.approx(PRIMARY + CORE + 2 * (0.5 + 0.1 + 0.01))
    assert bill.lines[2] == "2 × g4dn.xlarge (task, spot): 0.620 to 1.220 USD an hour"
    assert bill.node_usd["g4dn.xlarge spot"] == pytest.approx(0.31)


def test_of_a_fleets_types_the_cheapest_is_the_least_and_the_dearest_the_most():
    fleet = request_of(nodes="fleets", spot_count=2, spot_types="g4dn.xlarge,g5.xlarge")
    bill = bill_of(fleet, PRICES, "us-east-1")
    assert bill.least_usd_an_hour == pytest.approx(PRIMARY + CORE + 2 * (0.2 + 0.1 + 0.01))
    assert bill.usd_an_hour == pytest.approx(PRIMARY + CORE + 2 * (1.0 + 0.25 + 0.01))
    assert bill.lines[2] == "2 × g4dn.xlarge or 2 × g5.xlarge (task, spot): 0.620 to 2.520 USD an hour"
    assert bill.node_usd["g5.xlarge"] == pytest.approx(1.26), "a fleet may take it on demand where there is no spot"


def test_a_fleet_of_weighted_types_takes_as_many_nodes_as_fill_it():
    request = request_of(nodes="fleets")
    core = request["Instances"]["InstanceFleets"][1]
    core["InstanceTypeConfigs"] = [
        {"InstanceType": "g4dn.xlarge", "WeightedCapacity": 1},
        {"InstanceType": "g5.xlarge", "WeightedCapacity": 2},
    ]
    bill = bill_of(request, PRICES, "us-east-1")
    assert bill.lines[1].startswith("3 × g4dn.xlarge or 2 × g5.xlarge (core): 1.830 to 2.520 USD")


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"instance_hour": {"m5.xlarge": 0.2}}, "instance_hour.g4dn.xlarge"),
        ({"emr_hour": {"g4dn.xlarge": 0.1}}, "emr_hour.m5.xlarge"),
        ({"volume_gib_month": None}, "volume_gib_month"),
        ({"region": "eu-central-1"}, "all prices: they are those of eu-central-1, the cluster runs in us-east-1"),
    ],
)
def test_a_price_that_is_missing_is_named_and_never_made_up(changed, place):
    bill = bill_of(REQUEST, PRICES.model_copy(update=changed), "us-east-1")
    assert bill.unknown == (place,)
    assert bill.usd_an_hour < bill_of(REQUEST, PRICES, "us-east-1").usd_an_hour
    check_budget({"train": bill}, 6, 0)
    with pytest.raises(BudgetError, match=f"max_usd: no price known for {place}: .* set max_usd to 0"):
        check_budget({"train": bill}, 6, 1000)


def test_a_spot_price_is_not_taken_from_the_price_on_demand():
    bill = bill_of(request_of(spot_count=2), PRICES.model_copy(update={"spot_hour": {}}), "us-east-1")
    assert bill.unknown == ("spot_hour.g4dn.xlarge",)
    assert bill.usd_an_hour == pytest.approx(PRIMARY + CORE + 2 * (0.1 + 0.01)), "the fee of EMR is known"
    assert bill.node_usd["g4dn.xlarge spot"] is None


def test_clusters_that_could_cost_more_together_than_is_allowed_are_refused():
    bill = bill_of(REQUEST, PRICES, "us-east-1")
    both = {"split": bill, "train": bill}
    check_budget(both, 6, 25.09)
    with pytest.raises(BudgetError, match=r"could cost 25\.08 USD in max_hours = 6; allowed are 25"):
        check_budget(both, 6, 25)


def test_what_comes_beside_the_clusters_counts_against_the_limit_too():
    bill = bill_of(REQUEST, PRICES, "us-east-1")
    check_budget({"train": bill}, 6, 14.55, [TRAFFIC])
    with pytest.raises(BudgetError, match=r"12\.54 USD in max_hours = 6, 2\.00 for traffic from gs://b; allowed"):
        check_budget({"train": bill}, 6, 14.5, [TRAFFIC])
    with pytest.raises(BudgetError, match=r"could cost 0\.00 USD .*2\.00 for traffic"):
        check_budget({}, 6, 1.5, [TRAFFIC])


def test_traffic_without_a_price_stops_only_a_run_with_a_limit():
    unpriced = TRAFFIC.model_copy(update={"usd": None, "unknown": ("traffic_gib.gs",)})
    check_budget({}, 6, 0, [unpriced])
    with pytest.raises(BudgetError, match=r"no price known for traffic_gib\.gs"):
        check_budget({}, 6, 1000, [unpriced])


def test_work_that_surely_takes_longer_than_its_cluster_may_live_is_refused_by_the_field():
    check_hours("train", 6.0, 6.0)
    with pytest.raises(BudgetError, match=r"^max_hours: to train takes at least 6\.1 hours, .* ended after 6: "):
        check_hours("train", 6.1, 6.0)


def test_rates_are_a_least_and_a_most():
    with pytest.raises(ValueError, match="expected the least and the most, found 2 and 1"):
        Prices.model_validate({**PRICES.model_dump(), "rates": {"source_mbit_s": [2, 1]}})
