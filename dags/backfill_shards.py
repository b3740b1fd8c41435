"""### Records of a range of shards

**What a run does:** compares a range of shards (`000000..000999,002000`) with what the lake holds and makes what is
missing or stale, in batches of whole shards, each by one task. It begins with a *preview*: how many shards and bytes,
how many hours and USD; nothing runs until *preview* is taken out. Then the first shard is done alone, and its time,
rejects and USD are held against the plan (*canary*): too far from it, nothing else begins, and the message says why.

**It can be** paused and resumed (pause the DAG), cancelled and triggered again over the same range, which does no
shard twice, and run beside `nightly_reprocess`, which goes first where workers are short. Clearing a batch redoes only
what is missing of it. With *try rejects again* refused videos of the range that may pass now are tried once more. With
*first date* Airflow's own backfill by date does each date's shards.

**What it costs:** the workers' hours, storage, requests, traffic; no cluster. At most `SHARDMILL_BACKFILL_TASKS` tasks
(4 unless set) of a run are at work at once. A range that has outgrown the workers goes through `video_pipeline` with
*where* = `cluster`.

**What it leaves behind:** in the lake `raw/`, `clips/`, `features/`, and `runs/<run>/` with the plan, `canary.json` and
`report.html`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag

from shardmill.specs.shard_runs import BackfillSpec
from shardmill_airflow import shard_tasks, tasks
from shardmill_airflow.backfill_settings import tasks_at_once
from shardmill_airflow.forms import form_of
from shardmill_airflow.notifying import watched
from shardmill_airflow.outcomes import remember_failure
from shardmill_airflow.shard_dates import ShardDates


@dag(
    schedule=ShardDates(),
    catchup=False,
    params=form_of(BackfillSpec),
    tags=["shardmill", "video"],
    doc_md=__doc__,
    dagrun_timeout=timedelta(days=30),
    default_args={
        "owner": "shardmill",
        "retries": 1,
        "retry_delay": timedelta(seconds=10),
        "execution_timeout": timedelta(hours=24),
        "on_failure_callback": remember_failure,
        # Below the nights.
        "priority_weight": 1,
        "weight_rule": "absolute",
    },
    **watched(form_of(BackfillSpec)),
)
def backfill_shards() -> None:
    planned: Any = shard_tasks.plan_backfill().as_setup()
    spec_uri = planned["spec_uri"]
    # Without an edge to the plan: what stands directly behind a setup may not go on where others were skipped.
    later: Any = "{{ ti.xcom_pull(task_ids='plan', key='spec_uri') }}"
    batches = shard_tasks.shards.override(max_active_tis_per_dagrun=tasks_at_once()).partial(spec_uri=spec_uri)
    done: Any = batches.expand(batch=planned)
    report = tasks.report(spec_uri)

    # `count` fails the run where a batch failed. The report tells of it, and so comes last; it must not count for the
    # run's state, or `count` would be no leaf any more, which does.
    shard_tasks.canary(spec_uri) >> done >> shard_tasks.count(later) >> report.as_teardown()


backfill_shards()
