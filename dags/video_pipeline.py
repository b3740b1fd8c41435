"""### Shards of videos → a trained, evaluated classifier

**What a run does:** plans the shards, takes them into the lake, cuts every video into exact clips, makes YouTube-8M
records, brings up an EMR cluster, trains a two-stream bi-LSTM on it, evaluates it, takes the cluster down, and writes
a report. A stage does only what is missing: running it again, or clearing any task, repeats nothing that is there.

**What it costs:** one cluster (see *Where*) from `create_cluster` to `delete_cluster`, and before it another one where
a cluster is to cut the videos: `budget` says how much at most. They are ended whatever failed, and when they are idle.

**What it leaves behind:** in the lake `raw/`, `clips/`, `features/`, `runs/<run>/` with model, metrics, `report.html`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag

from shardmill.specs.video_pipeline import VideoPipelineSpec
from shardmill_airflow import tasks
from shardmill_airflow.forms import form_of
from shardmill_airflow.notifying import watched
from shardmill_airflow.operators import CreateCluster, DeleteCluster, RunJob
from shardmill_airflow.outcomes import remember_failure


@dag(
    schedule=None,
    catchup=False,
    params=form_of(VideoPipelineSpec),
    tags=["shardmill", "video"],
    doc_md=__doc__,
    dagrun_timeout=timedelta(days=8),
    default_args={
        "owner": "shardmill",
        "retries": 1,
        "retry_delay": timedelta(seconds=10),
        "execution_timeout": timedelta(hours=12),
        "on_failure_callback": remember_failure,
    },
    **watched(form_of(VideoPipelineSpec)),
)
def video_pipeline() -> None:
    planned: Any = tasks.plan().as_setup()
    spec_uri = planned["spec_uri"]
    budget = tasks.budget(spec_uri)
    # Without an edge to the plan: what stands directly behind a setup may not go on where others were skipped.
    later: Any = "{{ ti.xcom_pull(task_ids='plan', key='spec_uri') }}"
    # All map over the plan, from which shards were dropped that are done at every stage (known beforehand with a label
    # table only); with none left they are skipped. What maps over a mapped task is removed when a run is cleared.
    ingested: Any = tasks.ingest.partial(spec_uri=spec_uri).expand(batch=planned)
    # Workers or a cluster cut the videos; the other way is skipped. A cluster of its own, for it needs no GPU.
    clips: Any = tasks.split.partial(spec_uri=spec_uri).expand(batch=tasks.hand_out(spec_uri, planned))
    create_split = CreateCluster(task_id="create_split_cluster", spec_uri=spec_uri, work="split").as_setup()
    cut = RunJob(
        task_id="split_on_cluster", job="split_on_cluster", result="split.json", spec_uri=spec_uri, work="split"
    )
    delete_split = DeleteCluster(task_id="delete_split_cluster", spec_uri=spec_uri, work="split")
    labelled = tasks.label(later)
    records: Any = tasks.features.partial(spec_uri=labelled).expand(batch=planned)
    selected = tasks.select(later)
    create = CreateCluster(task_id="create_cluster", spec_uri=selected).as_setup()
    train = RunJob(task_id="train", job="train", result="model/model.json", spec_uri=spec_uri)
    evaluate = RunJob(task_id="evaluate", job="evaluate", result="metrics.json", spec_uri=spec_uri)
    delete = DeleteCluster(task_id="delete_cluster", spec_uri=spec_uri)
    report = tasks.report(spec_uri)

    budget >> ingested >> [clips, create_split]
    create_split >> cut >> delete_split.as_teardown(setups=create_split)
    [clips, cut] >> labelled
    records >> selected
    create >> train >> evaluate >> tasks.publish(spec_uri)
    # The plan is a setup of all teardowns too (they take its spec_uri): a teardown runs when at least one of its
    # setups succeeded, so the cluster is ended even where create_cluster was marked failed after it came up.
    evaluate >> delete.as_teardown(setups=create)
    [delete_split, delete] >> report.as_teardown(on_failure_fail_dagrun=True)


video_pipeline()
