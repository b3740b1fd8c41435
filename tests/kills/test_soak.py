"""Random kills, one after the other, while runs go on: `make soak-clusters` asks for 100 of them."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress

import pytest
from kills.airflow_lab import RESULT, AirflowLab

from shardmill.laptop.rest import ENDED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * 3600)]
KILLS = int(os.environ.get("SOAK_KILLS", "10"))
AT_ONCE = 4
SECONDS_BETWEEN = (2.0, 8.0)
LATE_SECONDS = 900.0
"""Airflow may take minutes to notice what a killed process had taken on."""


def victim_of(lab: AirflowLab, generator: random.Random) -> tuple[str, int] | None:
    """Choose what is killed: mostly a task, or the worker that has it, now and then the triggerer."""
    chance = generator.random()
    if chance < 0.15:
        return "triggerer", lab.running["triggerer"].pid
    tasks = [info for info in lab.workers() if info.parent != lab.running["scheduler"].pid]
    if not tasks:
        return None
    chosen = generator.choice(tasks)
    return ("worker", chosen.parent) if chance < 0.4 else ("task", chosen.pid)


def test_random_kills_leak_no_cluster_and_double_no_result(lab: AirflowLab) -> None:
    generator = random.Random(int(os.environ.get("SOAK_SEED", "1")))
    started = time.monotonic()
    kills: Counter[str] = Counter()
    begun: list[str] = []
    ended: dict[str, str] = {}
    while sum(kills.values()) < KILLS or len(ended) < len(begun):
        assert time.monotonic() - started < LATE_SECONDS + 20 * KILLS, (kills, begun, ended)
        for run in begun:
            if run not in ended and (state := lab.api.run_state("cluster_only", run)) in ENDED:
                ended[run] = state
        if sum(kills.values()) < KILLS:
            while len(begun) - len(ended) < AT_ONCE:
                begun.append(f"soak-{len(begun):03d}")
                lab.begin(begun[-1])
            if victim := victim_of(lab, generator):
                with suppress(ProcessLookupError):
                    os.kill(victim[1], signal.SIGKILL)
                    kills[victim[0]] += 1
        lab.look()
        time.sleep(generator.uniform(*SECONDS_BETWEEN))
    clusters = lab.clusters()
    done = {run: len(lab.steps_done(run)) for run in begun}
    print(
        json.dumps(
            {
                "kills": dict(kills),
                "runs": len(begun),
                "states": dict(Counter(ended.values())),
                "clusters": sum(map(len, clusters.values())),
                "most_alive_of_one_run": max(lab.watched.most.values()),
                "longest_surplus_s": round(lab.watched.longest_surplus, 1),
                "alive": sum(state not in ("TERMINATED",) for states in clusters.values() for state in states),
                "steps_done_twice": sum(count > 1 for count in done.values()),
                "seconds": round(time.monotonic() - started),
            }
        )
    )
    assert {state for states in clusters.values() for state in states} == {"TERMINATED"}
    assert set(ended.values()) == {"success"}, ended
    assert set(done.values()) == {1}, done
    assert {run: lab.result(run) for run in begun} == {run: RESULT.format(name=f"train {run}") for run in begun}
    assert lab.watched.longest_surplus < 60
