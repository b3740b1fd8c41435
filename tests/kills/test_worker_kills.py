"""Airflow's workers are killed at every stage of a cluster's life; afterwards there is one result, and no cluster."""

from __future__ import annotations

import pytest
from kills.airflow_lab import RESULT, AirflowLab, points_left

from shardmill.adapters.crash_points import CLUSTER_POINTS, WORKER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def check_nothing_leaked_and_nothing_doubled(lab: AirflowLab, runs: list[str]) -> None:
    for run in runs:
        assert lab.result(run) == RESULT.format(name=f"train {run}"), run
        assert len(lab.steps_done(run)) == 1, run
    clusters = lab.clusters()
    assert {state for states in clusters.values() for state in states} == {"TERMINATED"}, clusters
    assert lab.watched.longest_surplus < 60, lab.watched


def test_a_worker_that_is_killed_at_any_stage_leaves_one_result_and_no_cluster(lab: AirflowLab) -> None:
    runs = {f"{point}-{what}".replace("_", "-"): {point: what} for point in CLUSTER_POINTS for what in ("task", WORKER)}
    lab.begin("undisturbed")
    for run, crash in runs.items():
        lab.begin(run, crash)
    states = {run: lab.wait(run, 900) for run in ["undisturbed", *runs]}
    assert set(states.values()) == {"success"}, states
    assert points_left(lab) == []
    check_nothing_leaked_and_nothing_doubled(lab, ["undisturbed", *runs])
    assert {len(states) for states in lab.clusters().values()} == {1}
