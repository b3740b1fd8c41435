"""Runs of a DAG in an Airflow with a database and a task runner, in a process of its own, and on a lake on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
RUNS = """
import json, sys, time
from airflow.utils.db import initdb
initdb()
from airflow.dag_processing.bundles.manager import DagBundlesManager
DagBundlesManager().sync_bundles_to_db()
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models.asset import AssetDagRunQueue, AssetEvent
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
folder, dag_id, confs = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
sync_bag_to_db(bag := DagBag(folder), "dags-folder", None)
# Airflow's own `test` cannot end a successful run that has a deadline: it looks for it in the database by no id.
bag.dags[dag_id].deadline = None
for conf in confs:
    started = time.monotonic()
    run = bag.dags[dag_id].test(run_conf=conf)
    seconds = time.monotonic() - started
    tasks = [[ti.task_id, ti.map_index, str(ti.state)] for ti in run.get_task_instances()]
    with create_session() as session:
        events = [event.extra for event in session.query(AssetEvent)]
        waiting = [row.target_dag_id for row in session.query(AssetDagRunQueue)]
        kept = session.query(XComModel).filter_by(run_id=run.run_id)
        kept = kept.filter(XComModel.key.in_(["summary", "failure"]))
        told = {x.task_id: x.value for x in kept}
    told = {task: str(value) for task, value in told.items()}
    found = dict(state=str(run.state), seconds=seconds, tasks=tasks, events=events, waiting=waiting, told=told)
    print("RUN " + json.dumps(found), flush=True)
"""


@dataclass(frozen=True)
class Ran:
    """What became of a run."""

    state: str
    seconds: float
    tasks: list[tuple[str, int, str]]
    """Name, map index (-1: not mapped) and state of each."""
    events: list[dict[str, Any]]
    """Of assets, since the first run."""
    waiting: list[str]
    """DAGs that assets call for."""
    told: dict[str, str]
    """Line or cause of failure by task."""

    @property
    def states(self) -> dict[str, str]:
        """Of the tasks that are not mapped, or mapped over nothing."""
        return {name: state for name, index, state in self.tasks if index == -1}

    @property
    def mapped(self) -> list[tuple[str, int, str]]:
        return [task for task in self.tasks if task[1] != -1]


def run_dag(
    folder: Path, dags: Path, dag_id: str, confs: Sequence[Mapping[str, Any]], settings: Mapping[str, str] | None = None
) -> list[Ran]:
    """Run a DAG once for each conf, one after the other.

    Args:
        folder: for Airflow's home.
        dags: the DAGs folder.
        settings: more variables of the environment.
    """
    extra = {"region_name": "us-east-1", "endpoint_url": "http://127.0.0.1:1"}
    connection = {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}
    done = subprocess.run(
        [sys.executable, "-c", RUNS, dags, dag_id, json.dumps(confs)],
        env={
            "PATH": os.environ["PATH"],
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection),
            "SHARDMILL_LAKE_ROOTS": "file:///",
            "SHARDMILL_SOURCE_ROOTS": "file:///",
            **(settings or {}),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=290,
    )
    runs = [json.loads(line[4:]) for line in done.stdout.splitlines() if line.startswith("RUN ")]
    assert len(runs) == len(confs), done.stdout[-6000:] + done.stderr[-6000:]
    return [Ran(**run | {"tasks": [tuple(task) for task in run["tasks"]]}) for run in runs]
