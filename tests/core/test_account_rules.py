"""What an account said of itself is judged, and all that is wrong told at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shardmill.core.account import Account, Bucket, Needs, Role, Subnet, Unanswered
from shardmill.core.account_rules import EMR, judge
from shardmill.core.emr_request import cluster_request
from shardmill.core.requested_nodes import NodeType
from shardmill.core.vcpu_quotas import quota_of
from shardmill.specs.cluster import ClusterSpec

TYPES = {"m5.xlarge": NodeType(4, False), "g4dn.xlarge": NodeType(4, True), "g5.4xlarge": NodeType(16, True)}
STANDARD, GPU, GPU_SPOT = "L-1216C47A", "L-DB2E81BA", "L-3819A6DF"
SUBNET = "subnet-0123456789abcdef0"
ACCOUNT = Account(
    region="us-east-1",
    releases=frozenset({"emr-7.13.0"}),
    supported={"emr-7.13.0": frozenset(TYPES)},
    offered=frozenset(TYPES),
    types=TYPES,
    quotas={STANDARD: 32.0, GPU: 16.0, GPU_SPOT: 0.0},
    running={STANDARD: 20},
    roles={"EMR_DefaultRole": Role(frozenset({EMR}))},
    profiles={"EMR_EC2_DefaultRole": frozenset({"nodes"})},
    subnets={SUBNET: Subnet("available", 50)},
    buckets={"lake": Bucket("us-east-1")},
)


def needs_of(work="train", **changed) -> Needs:
    values = {
        "name": "shardmill-r1",
        "run": "r1",
        "work": work,
        "image_id": "ami-0123456789abcdef0",
        "log_uri": "s3://lake/logs",
        "deadline": "2026-11-21T12:00:00+00:00",
        "subnet_id": SUBNET,
    }
    return Needs({work: cluster_request(ClusterSpec(**(values | changed)))}, {"lake": "lake"})


def refusals(account=ACCOUNT, **changed) -> list[str]:
    return judge(account, needs_of(**changed)).refusals


def test_an_account_that_holds_everything_refuses_nothing():
    findings = judge(ACCOUNT, needs_of())
    assert findings.refusals == []
    assert findings.not_checked == []
    assert "vCPUs within quota: 4 of 32 L-1216C47A, 8 of 16 L-DB2E81BA" in findings.right


def test_a_quota_that_is_too_small_is_refused_with_all_three_figures():
    (refusal,) = refusals(core_count=5)
    assert refusal.startswith("core_count: the cluster to train needs 20 vCPUs of the quota “Running On-Demand G and")
    assert "which is 16, and 0 are in use" in refusal


def test_what_runs_already_takes_of_the_quota():
    assert refusals(replace(ACCOUNT, running={STANDARD: 28})) == []
    (refusal,) = refusals(replace(ACCOUNT, running={STANDARD: 29}))
    assert "needs 4 vCPUs" in refusal and "which is 32, and 29 are in use" in refusal


def test_spot_nodes_count_against_a_quota_of_their_own():
    (refusal,) = refusals(spot_count=1)
    assert refusal.startswith("spot_count: ") and "All G and VT Spot Instance Requests" in refusal


def test_of_a_fleets_types_the_one_that_needs_the_fewest_vcpus_counts():
    fleet = {"nodes": "fleets", "spot_count": 4, "spot_types": "g5.4xlarge,g4dn.xlarge"}
    assert refusals(replace(ACCOUNT, quotas={**ACCOUNT.quotas, GPU_SPOT: 16.0}), **fleet) == []
    (refusal,) = refusals(replace(ACCOUNT, quotas={**ACCOUNT.quotas, GPU_SPOT: 15.0}), **fleet)
    assert "needs 16 vCPUs" in refusal


def test_split_nodes_are_refused_by_their_own_fields():
    found = refusals(replace(ACCOUNT, offered=frozenset({"m5.xlarge"})), work="split", core_count=9)
    assert [refusal.partition(":")[0] for refusal in found] == ["split_type", "split_count"]


@pytest.mark.parametrize("nodes", ["groups", "fleets"])
def test_a_subnet_without_room_for_all_nodes_is_refused(nodes):
    account = replace(ACCOUNT, subnets={SUBNET: Subnet("available", 4)})
    assert refusals(account, nodes=nodes, core_count=3) == []
    (refusal,) = refusals(account, nodes=nodes, core_count=4)
    assert refusal == (
        f"subnet_id: {SUBNET} has 4 free addresses, the cluster needs 5: name a larger subnet, or take fewer nodes"
    )


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"roles": {"EMR_DefaultRole": None}}, "service_role: there is no role EMR_DefaultRole"),
        ({"profiles": {"EMR_EC2_DefaultRole": None}}, "instance_profile: there is no instance profile"),
        ({"subnets": {SUBNET: None}}, f"subnet_id: there is no subnet {SUBNET}"),
        ({"subnets": {SUBNET: Subnet("pending", 9)}}, f"subnet_id: {SUBNET} is pending, expected available"),
        ({"buckets": {"lake": None}}, "lake: there is no bucket lake"),
        ({"buckets": {"lake": Bucket("eu-west-1")}}, "lake: the bucket lake lies in eu-west-1"),
        ({"releases": frozenset({"emr-7.12.0"})}, "release_label: EMR has no release emr-7.13.0"),
    ],
)
def test_each_thing_that_is_not_there_is_refused_by_its_field(changed, told):
    (refusal,) = refusals(replace(ACCOUNT, **changed))
    assert refusal.startswith(told)


@pytest.mark.parametrize("name", ["releases", "offered", "types", "quotas", "running"])
def test_a_question_without_an_answer_refuses_nothing_and_is_never_silent(name):
    findings = judge(replace(ACCOUNT, **{name: Unanswered("may not ask")}), needs_of())
    assert findings.refusals == []
    assert [line.endswith(": may not ask") for line in findings.not_checked] == [True]


def test_a_type_that_no_known_quota_covers_is_said_to_be_unchecked():
    kinds = {**TYPES, "trn1.2xlarge": NodeType(8, True)}
    account = replace(ACCOUNT, types=kinds, offered=frozenset(kinds), supported={"emr-7.13.0": frozenset(kinds)})
    findings = judge(account, needs_of(core_type="trn1.2xlarge"))
    assert findings.refusals == []
    assert findings.not_checked[0].endswith("no quota is known that trn1.2xlarge counts against")


def test_a_run_without_clusters_asks_nothing_of_an_account():
    findings = judge(ACCOUNT, Needs({}, {}))
    assert (findings.refusals, findings.right, findings.not_checked) == ([], [], [])


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("m5.xlarge", STANDARD),
        ("c7a.4xlarge", STANDARD),
        ("im4gn.large", STANDARD),
        ("t3.micro", STANDARD),
        ("g4dn.xlarge", GPU),
        ("gr6.4xlarge", GPU),
        ("p4d.24xlarge", "L-417A185B"),
        ("inf2.xlarge", None),
        ("mac1.metal", None),
    ],
)
def test_an_instance_counts_against_the_quota_of_its_family(name, code):
    found = quota_of(name, spot=False)
    assert (found.code if found else None) == code


def test_p5_on_the_spot_market_has_a_quota_that_is_not_known_here():
    assert quota_of("p5.48xlarge", spot=True) is None
    assert quota_of("p4d.24xlarge", spot=True).code == "L-7212CCBC"
