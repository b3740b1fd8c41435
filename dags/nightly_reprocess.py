"""### Each night: records of all shards that need it

**What a run does:** compares the source's listing with what the lake holds and does exactly the shards that are new,
that changed at the source, that an older recipe made, or that have rejects which may pass by themselves (three tries
of a version of the source at most). `plan` says why for each. The oldest come first, up to *max shards*, *max hours*
and *max usd*; the others wait for the next night. Each shard is taken in, cut and described by one task a batch;
clearing a batch redoes only what is missing of it. A night without work ends in seconds. A shard that alone is more
than a cap fails the night behind the others; one that failed in three nights is left until its source changes.

**When:** by the cron in `SHARDMILL_NIGHTLY_CRON`, 02:00 UTC unless set, with the fields in `SHARDMILL_NIGHTLY` (JSON);
the form's values otherwise. A night that still runs is not overtaken: the next one waits for its end. The DAG is
paused until you unpause it.

**What it costs:** the workers' hours, storage, requests, traffic; no cluster. Shards that have outgrown the workers go
through `video_pipeline` with *where* = `cluster`.

**What it leaves behind:** in the lake `raw/`, `clips/`, `features/`, and `runs/<run>/` with the plan, `fresh.json` and
`report.html`. When all shards but at most *shards that may be missing* are fresh and something is new, the asset
`shardmill-records` is updated: training may follow.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag

from shardmill_airflow import shard_tasks, tasks
from shardmill_airflow.nightly_settings import BUT_BACKFILLS, nightly_form, nightly_timetable
from shardmill_airflow.notifying import watched
from shardmill_airflow.outcomes import remember_failure

FORM = nightly_form()


@dag(
    schedule=nightly_timetable(),
    catchup=False,
    max_active_runs=1,
    allowed_run_types=BUT_BACKFILLS,
    is_paused_upon_creation=True,
    params=FORM,
    tags=["shardmill", "video"],
    doc_md=__doc__,
    dagrun_timeout=timedelta(days=7),
    default_args={
        "owner": "shardmill",
        "retries": 1,
        "retry_delay": timedelta(seconds=10),
        "execution_timeout": timedelta(hours=24),
        "on_failure_callback": remember_failure,
        # Above backfills, which may run beside it.
        "priority_weight": 10,
        "weight_rule": "absolute",
    },
    **watched(FORM),
)
def nightly_reprocess() -> None:
    planned: Any = shard_tasks.plan_nightly().as_setup()
    spec_uri = planned["spec_uri"]
    # Without an edge to the plan: what stands directly behind a setup may not go on where others were skipped.
    later: Any = "{{ ti.xcom_pull(task_ids='plan', key='spec_uri') }}"
    done: Any = shard_tasks.shards.partial(spec_uri=spec_uri).expand(batch=planned)
    report = tasks.report(spec_uri)

    # What is fresh is told even where a batch failed; `count` then fails the run. The report tells of both and comes
    # last; it must not count for the run's state, or these two would be no leaves any more, which do.
    done >> [shard_tasks.announce(later), shard_tasks.count(later)] >> report.as_teardown()


nightly_reprocess()
