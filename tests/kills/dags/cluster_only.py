"""A cluster, a step on it and its end, of a run that the test wrote into the lake: what costs in a pipeline."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from shardmill_airflow.operators import CreateCluster, DeleteCluster, RunJob
from shardmill_airflow.outcomes import remember_failure

PATIENT: dict[str, Any] = {
    "retries": 40,
    "retry_delay": timedelta(seconds=1),
    "max_retry_delay": timedelta(seconds=5),
}
"""A soak kills a task more often than a task is killed in a year."""


@task
def begin(params: dict[str, Any] | None = None) -> str:
    return str((params or {})["spec_uri"])


@dag(
    schedule=None,
    catchup=False,
    params={"spec_uri": ""},
    doc_md=__doc__,
    max_active_runs=32,
    default_args={
        "owner": "shardmill",
        **PATIENT,
        "execution_timeout": timedelta(minutes=30),
        "on_failure_callback": remember_failure,
    },
)
def cluster_only() -> None:
    spec_uri: Any = begin().as_setup()
    create = CreateCluster(task_id="create_cluster", spec_uri=spec_uri, **PATIENT).as_setup()
    train = RunJob(task_id="train", job="train", result="model/model.json", spec_uri=spec_uri, **PATIENT)
    delete = DeleteCluster(task_id="delete_cluster", spec_uri=spec_uri, **PATIENT)
    create >> train >> delete.as_teardown(setups=create)


cluster_only()
