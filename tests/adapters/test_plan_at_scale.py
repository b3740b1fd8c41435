"""Plan 3,000 shards of 3 stages, each plan in a fresh process, as ``scripts/bench_plan.py`` does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
MOST_SECONDS = 10
MOST_MEGABYTES = 500


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    """What each of the four plans took."""
    folder = tmp_path_factory.mktemp("scale")
    command = [sys.executable, PROJECT / "scripts" / "bench_plan.py", folder]
    found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=240).stdout
    return {plan["plan"]: plan for plan in map(json.loads, found.splitlines())}


DONE = {stage: {"done": 3000} for stage in ("raw", "clips", "features")}


def test_a_plan_of_what_is_all_done_reads_no_manifest(plans):
    found = plans["all done"]
    assert found["states"] == DONE
    assert (found["manifests_read"], found["tables_read"], found["listings"]) == (0, 3, 4)


@pytest.mark.parametrize("name", ["all done", "ten shards changed at the source", "ten shards were made anew"])
def test_a_plan_takes_less_than_ten_seconds_and_half_a_gigabyte(plans, name):
    # Not by the clock on the wall, which shows what else the machine does.
    assert plans[name]["cpu_seconds"] < MOST_SECONDS
    assert plans[name]["peak_mb"] < MOST_MEGABYTES


def test_an_index_of_all_manifests_is_made_in_half_a_gigabyte(plans):
    assert plans["no index"]["states"] == DONE
    assert plans["no index"]["manifests_read"] == 9000
    assert plans["no index"]["peak_mb"] < MOST_MEGABYTES


def test_only_what_changed_is_stale_and_only_its_manifests_are_read(plans):
    changed = {"stale": 10, "done": 2990}
    assert plans["ten shards changed at the source"]["states"] == {
        "raw": changed,
        "clips": changed,
        "features": changed,
    }
    assert plans["ten shards changed at the source"]["manifests_read"] == 0
    assert plans["ten shards were made anew"]["states"] == DONE
    assert plans["ten shards were made anew"]["manifests_read"] == 30
