"""### YouTube-8M records → a trained, evaluated classifier

**What a run does:** lists TFRecord files in a folder of a bucket, or those of the published data set on a mirror,
fetches the latter into the lake, counts and hashes each file once, brings up an EMR cluster, trains a model on the
records, evaluates it, takes the cluster down, and writes a report. Running it again, or clearing any task, repeats
nothing that is there.

**What it costs:** one cluster (see *Where*) from `create_cluster` to `delete_cluster`: `budget` says how much at most.
It is ended whatever failed, and when it is idle.

**What it leaves behind:** in the lake `records/` with what was fetched and found, and `runs/<run>/` with the model, the
metrics and `report.html`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag

from shardmill.specs.train_on_records import TrainOnRecordsSpec
from shardmill_airflow import record_tasks, tasks
from shardmill_airflow.forms import form_of
from shardmill_airflow.notifying import watched
from shardmill_airflow.operators import CreateCluster, DeleteCluster, RunJob
from shardmill_airflow.outcomes import remember_failure


@dag(
    schedule=None,
    catchup=False,
    params=form_of(TrainOnRecordsSpec),
    tags=["shardmill", "records"],
    doc_md=__doc__,
    dagrun_timeout=timedelta(days=8),
    default_args={
        "owner": "shardmill",
        "retries": 1,
        "retry_delay": timedelta(seconds=10),
        "execution_timeout": timedelta(hours=12),
        "on_failure_callback": remember_failure,
    },
    **watched(form_of(TrainOnRecordsSpec)),
)
def train_on_records() -> None:
    planned: Any = record_tasks.plan_records().as_setup()
    spec_uri = planned["spec_uri"]
    budget = tasks.budget(spec_uri)
    # Without an edge to the plan: what stands directly behind a setup may not go on where others were skipped.
    later: Any = "{{ ti.xcom_pull(task_ids='plan', key='spec_uri') }}"
    # With no file left to be fetched or counted it is skipped, and what follows looks at all of the run's files.
    fetched: Any = record_tasks.fetch.partial(spec_uri=spec_uri).expand(batch=planned)
    found = record_tasks.find(later)
    create = CreateCluster(task_id="create_cluster", spec_uri=found).as_setup()
    train = RunJob(task_id="train", job="train", result="model/model.json", spec_uri=spec_uri)
    evaluate = RunJob(task_id="evaluate", job="evaluate", result="metrics.json", spec_uri=spec_uri)
    delete = DeleteCluster(task_id="delete_cluster", spec_uri=spec_uri)
    report = tasks.report(spec_uri)

    budget >> fetched >> found
    create >> train >> evaluate >> tasks.publish(spec_uri)
    # The plan is a setup of the teardown too (it takes its spec_uri): a teardown runs when at least one of its setups
    # succeeded, so the cluster is ended even where create_cluster was marked failed after it came up.
    evaluate >> delete.as_teardown(setups=create)
    delete >> report.as_teardown(on_failure_fail_dagrun=True)


train_on_records()
