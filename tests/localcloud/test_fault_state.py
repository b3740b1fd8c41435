from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shardmill.localcloud.emr_state import Cluster, Step
from shardmill.localcloud.fault_state import Fault, FaultsError, Occasion, SwitchedOn, read_faults, strike, write_faults
from shardmill.localcloud.step_stand_in import stand_in_command, stand_in_writes

OPERATIONS = ("RunJobFlow", "DescribeCluster")


def on(*faults: dict[str, Any], since: float = 100.0) -> tuple[SwitchedOn, ...]:
    return tuple(SwitchedOn(fault, since) for fault in read_faults(list(faults), OPERATIONS))


def strikes(faults: tuple[SwitchedOn, ...], *occasions: Occasion, now: float = 101.0) -> list[bool]:
    found = []
    for occasion in occasions:
        faults, fault = strike(faults, occasion, now)
        found.append(fault is not None)
    return found


def test_a_fault_strikes_once_unless_it_is_told_how_often() -> None:
    start = Occasion("capacity", "j-1", "night")
    assert strikes(on({"kind": "capacity"}), start, start) == [True, False]
    assert strikes(on({"kind": "capacity", "times": 2}), start, start, start) == [True, True, False]


def test_modes_last_until_they_are_cleared() -> None:
    start = Occasion("no_spark", "j-1", "night")
    assert strikes(on({"kind": "no_spark"}), *[start] * 5) == [True] * 5
    assert strikes(on({"kind": "no_spark", "times": 1}), start, start) == [True, False]


def test_throttling_is_of_some_operations_and_ends_by_the_clock() -> None:
    faults = on({"kind": "throttle", "operations": ["DescribeCluster"], "seconds": 5})
    look, start = Occasion("throttle", operation="DescribeCluster"), Occasion("throttle", operation="RunJobFlow")
    assert strikes(faults, look, start, look) == [True, False, True]
    assert strikes(faults, look, now=104.9) == [True]
    assert strikes(faults, look, now=105.0) == [False]


def test_a_fault_without_operations_strikes_all_of_them() -> None:
    faults = on({"kind": "throttle", "times": 3})
    assert strikes(faults, *(Occasion("throttle", operation=name) for name in (*OPERATIONS, "ListSteps"))) == [True] * 3


def test_a_fault_waits_for_its_cluster_and_its_step() -> None:
    faults = on({"kind": "step_failure", "cluster": "night", "step": "train"})
    other = Occasion("step_failure", "j-1", "shardmill-day", "s-1", "train night")
    wrong_step = replace(other, cluster_name="shardmill-night", step_name="evaluate")
    right = replace(wrong_step, step_name="train x")
    assert strikes(faults, other, wrong_step, right, right) == [False, False, True, False]
    assert strikes(on({"kind": "terminated", "cluster": "j-1"}), Occasion("terminated", "j-1", "a")) == [True]


def test_a_fault_may_wait_for_a_step_to_run() -> None:
    faults = on({"kind": "node_lost", "during_step": True})
    idle = Occasion("node_lost", "j-1", "a")
    assert strikes(faults, idle, replace(idle, step_runs=True)) == [False, True]


def test_of_two_faults_of_one_kind_the_first_strikes_first() -> None:
    faults = on({"kind": "step_failure", "status": 137}, {"kind": "step_failure", "status": 143})
    occasion = Occasion("step_failure", "j-1", "a", "s-1", "train")
    faults, first = strike(faults, occasion, 101.0)
    faults, second = strike(faults, occasion, 101.0)
    assert (first and first.status, second and second.status) == (137, 143)
    assert [one["struck"] for one in write_faults(faults, 101.0)] == [1, 1]
    assert all(one["over"] for one in write_faults(faults, 101.0))


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ([{"kind": "earthquake"}], "0.kind"),
        ([{}], "0.kind: Field required"),
        ({"kind": "capacity"}, "tuple"),
        ([{"kind": "capacity", "times": 0}], "0.times"),
        ([{"kind": "capacity", "status": 137}], "capacity does not take status"),
        ([{"kind": "throttle", "cluster": "night"}], "throttle does not take cluster"),
        ([{"kind": "slow_start"}], "slow_start: expected seconds"),
        ([{"kind": "step_failure", "status": 0}], "0.status"),
        ([{"kind": "lost_answer", "operations": ["RunJobFlow", "Run"]}], "does not know Run"),
    ],
)
def test_a_wrong_fault_is_refused_by_the_name_of_its_field(faults: Any, words: str) -> None:
    with pytest.raises(FaultsError, match=words):
        read_faults(faults, OPERATIONS)


def test_what_stands_in_for_a_job_is_a_process() -> None:
    assert stand_in_command(Fault(kind="step_hang")) == ("sleep", "infinity")
    assert stand_in_command(Fault(kind="no_spark", seconds=0.5)) == ("sleep", "0.5")
    assert stand_in_command(Fault(kind="step_failure", status=137, text="killed"))[-2:] == ("killed", "137")


def test_the_names_in_what_a_step_writes_are_filled_in() -> None:
    step = Step("s-1", "train r", "command-runner.jar", ("spark-submit", "train", "s3://lake/runs/r/spec.json"), 0.0)
    fault = Fault(kind="no_spark", writes={"{folder}/by/{step}.json": '{"cluster": "{cluster}", "name": "{name}"}'})
    assert stand_in_writes(fault, Cluster("j-1", {"Name": "c"}, 0.0), step) == {
        "s3://lake/runs/r/by/s-1.json": '{"cluster": "j-1", "name": "train r"}'
    }
