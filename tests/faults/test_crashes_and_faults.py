"""Every crash point with every fault of the store: what is there at the end is what an undisturbed run leaves."""

from __future__ import annotations

import itertools
import zlib
from dataclasses import replace
from typing import get_args

import pytest
from faults.checker import Golden
from faults.lab import Lab
from faults.s3_rules import Action, Rule, Share
from faults.writers import Asked

NO_FAULT = "none"
FAULTS = (NO_FAULT, *get_args(Action))
SHARE = 0.12
"""Of the requests that meet the fault."""
HANGING = 0.04
"""The same for those that wait for their time to be up: each costs a second."""
# How often an undisturbed writer of three videos passes each point, stage after stage; a test below counts.
PASSES = {"part_built": 9, "part_put": 9, "receipt_put": 9, "manifest_built": 3, "manifest_put": 3}
CRASHES = [f"{point}:{number}" for point, count in PASSES.items() for number in range(1, count + 1)]
COMBINATIONS = list(itertools.product(CRASHES, FAULTS))


def rule(fault: str, seed: int) -> list[Rule]:
    share = HANGING if fault.startswith("hang") else SHARE
    return [] if fault == NO_FAULT else [Rule(fault, Share(share, seed))]  # type: ignore[arg-type]


def check(lab: Lab, golden: Golden, crash: str, fault: str) -> None:
    seed = zlib.crc32(f"{crash} {fault}".encode())
    experiment = lab.experiment()
    lab.proxy.add(*rule(fault, seed))
    experiment.until_done(Asked("writer", crash_at=crash))
    found = experiment.violations(golden)
    assert not found, (crash, fault, seed, found, [(end.error, end.trace) for end in experiment.ended])
    assert len(experiment.manifests()) == 3


def test_an_undisturbed_writer_passes_each_point_as_often_as_is_listed_here(lab, golden):
    experiment = lab.experiment()
    [ended] = experiment.run(Asked("writer"))
    assert ended.points == PASSES
    assert not experiment.violations(golden)


@pytest.mark.parametrize(("crash", "fault"), COMBINATIONS[:: len(FAULTS) + 5])
def test_a_crash_and_a_fault_leave_what_an_undisturbed_run_leaves(lab, golden, crash, fault):
    check(lab, golden, crash, fault)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_every_crash_with_every_fault_leaves_what_an_undisturbed_run_leaves(lab, golden, fault):
    for crash in CRASHES:
        check(lab, golden, crash, fault)


@pytest.mark.parametrize("writers", [2, 5])
@pytest.mark.parametrize("noise", [False, True], ids=["same_bytes", "features_that_differ"])
@pytest.mark.parametrize("fault", ["none", "reset_after", pytest.param("slow_down", marks=pytest.mark.slow)])
def test_writers_of_one_shard_at_the_same_time_leave_one_of_each(lab, golden, writers, noise, fault):
    experiment = lab.experiment()
    lab.proxy.add(*rule(fault, seed=writers))
    asked = [Asked(f"writer {number}", noise=noise) for number in range(writers)]
    asked[0] = replace(asked[0], crash_at="receipt_put:4")
    experiment.until_done(*asked)
    wanted = Golden(golden.samples, {stage: parts for stage, parts in golden.parts.items() if stage != "features"})
    assert not experiment.violations(wanted if noise else golden)
    assert len(experiment.manifests()) == 3
