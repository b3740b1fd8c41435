"""Runs operators as Airflow's scheduler, worker and triggerer would, in one process and without a database."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shardmill.adapters.run_folder import freeze
from shardmill.adapters.store import Store, StoreSettings
from shardmill.localcloud.faults import set_faults
from shardmill.localcloud.launch import LocalCloud
from shardmill.localcloud.seed import client
from shardmill.specs.manifest import SourceObject
from shardmill.specs.run import PlannedShard, RunPlan, RunSpec
from shardmill.specs.video_pipeline import VideoPipelineSpec

LAKE = "s3://shardmill-lake/operators"
RESULT = "model/model.json"
NO_SPARK = {
    "kind": "no_spark",
    "seconds": 0.3,
    "bootstrap": False,
    "writes": {"{folder}/model/model.json": "{}", "{folder}/by-step/{step}": "{}"},
}
STARTED = "2026-11-21T00:00:00+00:00"
DAG_RUN = SimpleNamespace(dag_id="cluster_only", run_id="r")


@dataclass
class Ti:
    """A task instance: its tries, and what it pushed."""

    task: Any
    try_number: int = 1
    max_tries: int = 0
    xcoms: dict[str, Any] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    """Keys in the order in which they were pushed, and where it deferred."""

    @property
    def context(self) -> dict[str, Any]:
        return {"ti": self, "dag_run": SimpleNamespace(dag_id="video_pipeline", run_id="manual__1")}

    def xcom_push(self, key: str, value: Any) -> None:
        json.dumps(value)
        self.xcoms[key] = value
        self.history.append(key)


@dataclass
class Ran:
    """How a task ended."""

    state: str
    ti: Ti
    errors: list[Exception]
    delays: list[timedelta | None]
    """Before each further try, where the retry policy named one."""

    @property
    def message(self) -> str:
        return str(self.errors[-1]) if self.errors else ""

    @property
    def line(self) -> str:
        return str(self.ti.xcoms["summary"]["line"])


def run_try(operator: Any, ti: Ti) -> None:
    """Run one try of a task: execute, then trigger and method for as long as it defers."""
    from airflow.sdk.exceptions import TaskDeferred

    method, arguments = operator.execute, {}
    while True:
        try:
            method(context={"ti": ti, "dag_run": DAG_RUN}, **arguments)
        except TaskDeferred as deferred:
            ti.history.append(f"deferred to {deferred.method_name}")
            arguments = json.loads(json.dumps(dict(deferred.kwargs or {}))) | {"event": fire(deferred.trigger)}
            method = getattr(operator, deferred.method_name)
        else:
            return


def fire(trigger: Any) -> dict[str, Any]:
    """Run a trigger as the triggerer does: made again from what the database keeps of it."""
    from airflow.sdk.module_loading import import_string

    name, arguments = trigger.serialize()

    async def first() -> Any:
        events = import_string(name)(**json.loads(json.dumps(arguments))).run()
        event = await anext(events)
        with contextlib.suppress(StopAsyncIteration):
            await anext(events)
        return event.payload

    return asyncio.run(first())


def run_task(operator: Any, ti: Ti | None = None, most_tries: int | None = None) -> Ran:
    """Run a task with its retries, which follow one another at once."""
    from airflow.sdk import RetryAction
    from airflow.sdk.exceptions import AirflowFailException

    ti = ti or Ti(operator, max_tries=operator.retries)
    errors: list[Exception] = []
    delays: list[timedelta | None] = []
    while True:
        try:
            run_try(operator, ti)
        except AirflowFailException as error:
            return Ran("failed", ti, [*errors, error], delays)
        except Exception as error:  # noqa: BLE001 - as the task runner does
            errors.append(error)
            decision = operator.retry_policy.evaluate(error, ti.try_number, ti.max_tries, {"ti": ti})
            if decision.action == RetryAction.FAIL or ti.try_number > min(ti.max_tries, most_tries or ti.max_tries):
                return Ran("failed", ti, errors, delays)
            delays.append(decision.retry_delay)
            ti.try_number += 1
            ti.xcoms.clear()
        else:
            return Ran("success", ti, errors, delays)


@dataclass
class Lab:
    """A local EMR without Spark, and runs in its lake."""

    cloud: LocalCloud

    def __post_init__(self) -> None:
        self.emr: Any = client("emr", self.cloud.endpoint)
        self.settings = StoreSettings.from_environment(self.cloud.environment())
        self.lake = Store(LAKE, self.settings)

    def faults(self, *faults: dict[str, Any], **no_spark: Any) -> None:
        set_faults(self.cloud.endpoint, [*faults, {**NO_SPARK, **no_spark}])

    def begin(self, run: str, **asked: Any) -> str:
        """Write a run into the lake; give the URI of its spec."""
        spec = RunSpec(run=run, started=STARTED, asked=VideoPipelineSpec(lake=LAKE, **asked))
        source = SourceObject(uri="s3://shardmill-source/s-000000.tar", size=1, version="v")
        freeze(self.lake, run, "plan.json", RunPlan(shards=(PlannedShard(shard=0, source=source),)))
        freeze(self.lake, run, "spec.json", spec)
        return f"{LAKE}/runs/{run}/spec.json"

    def alive(self, run: str = "") -> list[str]:
        states = ["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING", "TERMINATING"]
        return self._named(run, ClusterStates=states)

    def ever(self, run: str) -> list[str]:
        """Give the ids of all clusters that a run had, the oldest first."""
        return self._named(run)[::-1]

    def _named(self, run: str, **wanted: Any) -> list[str]:
        pages = self.emr.get_paginator("list_clusters").paginate(**wanted)
        found = [one for page in pages for one in page["Clusters"]]
        return [one["Id"] for one in found if not run or one["Name"].startswith(f"shardmill-{run}-")]

    def steps(self, cluster_id: str) -> list[tuple[str, str]]:
        """Give id and state of a cluster's steps, the oldest first."""
        found = self.emr.list_steps(ClusterId=cluster_id)["Steps"]
        return [(step["Id"], step["Status"]["State"]) for step in found][::-1]

    def results(self, run: str) -> int:
        """Count the steps that wrote a result."""
        return len(list(self.lake.list(f"runs/{run}/by-step")))


@contextlib.contextmanager
def airflow_for(cloud: LocalCloud, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set Airflow's operators up to reach a local AWS, at a pace for tests."""
    patch.setenv("AIRFLOW_HOME", str(folder))
    patch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    extra = {"region_name": "us-east-1", "endpoint_url": cloud.endpoint}
    connection = {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}
    patch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    from airflow.sdk.bases.operator import ExecutorSafeguard

    from shardmill.adapters.emr import calls
    from shardmill_airflow import (
        beside,
        cluster_tasks,
        cluster_use,
        connections,
        image_wait,
        images,
        step_tasks,
        triggers,
    )

    made_once = functools.cache(connections.client)  # making a client takes longer than all that is asked of it
    for module in (beside, cluster_tasks, cluster_use, image_wait, images, step_tasks, triggers):
        patch.setattr(module, "client", made_once)
    patch.setattr(ExecutorSafeguard, "test_mode", True)
    patch.setattr(triggers, "FIRST_LOOK_SECONDS", 0.2)
    patch.setattr(image_wait, "FIRST_LOOK_SECONDS", 0.2)
    patch.setattr(beside, "OUTPUT_SECONDS", 0.3)
    patch.setattr(beside, "SURPLUS_SECONDS", 0.5)
    patch.setattr(beside, "LATE_LOGS_LOOK_SECONDS", 0.1)
    for module in (cluster_tasks, images):
        patch.setattr(module, "SETTLE_SECONDS", 0.1)
    patch.setattr(calls, "PAUSES", (0.1, 0.2))
    yield
