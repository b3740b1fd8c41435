"""Find the run before another in the lake."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

from shardmill.adapters.run_folder import find, run_key
from shardmill.adapters.store import Store, StoreError, read_sealed
from shardmill.core.report import Earlier
from shardmill.specs.fresh import Fresh
from shardmill.specs.records import MetricsReport, Predictions, RecordSet
from shardmill.specs.result import RunResult
from shardmill.specs.run import RunPlan, RunSpec

log = logging.getLogger(__name__)
MOST_RUNS = 2_000
"""Runs that are looked at, the last by name: a run's name ends in its time, by kind of trigger."""
MOST_PASSED = 50
"""Runs without metrics that are passed over."""
READERS = 16


def find_earlier(lake: Store, run: RunSpec) -> Earlier | None:
    """Find the last run before this one, of its kind and data set, that has metrics; without any, the last at all.

    Runs that only planned are no runs here. Returns None where there is no other.
    """
    before = sorted(_others(lake, run), key=lambda other: (other.started, other.run), reverse=True)
    for passed, other in enumerate(before[:MOST_PASSED]):
        if lake.head(run_key(other.run, "metrics.json")):
            return _read(lake, other, passed)
    return _read(lake, before[0], 0) if before else None


def _others(lake: Store, run: RunSpec) -> list[RunSpec]:
    names = [name for name in lake.folders("runs") if name != run.run][-MOST_RUNS:]

    def read(name: str) -> RunSpec | None:
        try:
            return read_sealed(lake, run_key(name, "spec.json"), RunSpec)
        except StoreError as error:  # another run's record must not keep this one from its report
            log.info("the run %s is not compared with: %s", name, error)
            return None

    with ThreadPoolExecutor(READERS) as pool:
        found = [other for other in pool.map(read, names) if other is not None]
    return [
        other
        for other in found
        if (other.pipeline, other.asked.dataset) == (run.pipeline, run.asked.dataset)
        and other.started < run.started
        and not other.is_dry
    ]


def _read(lake: Store, other: RunSpec, passed: int) -> Earlier | None:
    try:
        said = find(lake, other.run, "predictions.json", Predictions)
        return Earlier(
            run=other,
            result=find(lake, other.run, "result.json", RunResult),
            metrics=find(lake, other.run, "metrics.json", MetricsReport),
            plan=find(lake, other.run, "plan.json", RunPlan),
            fresh=find(lake, other.run, "fresh.json", Fresh),
            records=find(lake, other.run, "records.json", RecordSet),
            videos=frozenset(said.listed) if said else frozenset(),
            between=passed,
        )
    except StoreError as error:
        log.warning("the run %s is not compared with: %s", other.run, error)
        return None
