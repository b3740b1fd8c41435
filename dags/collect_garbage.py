"""### Deletes what nothing in a lake refers to

**What a run does:** looks through the lake for parts and receipts that no manifest needs, for recipes past their
retention, and for uploads that nobody finished, and says what would go and why. It deletes only where *delete* is set;
look at a run without it first.

**What it never touches:** a recipe that a run refers to, and in recipes that stay a shard without a manifest, a
revision above a shard's highest (its writer may be at work), and a shard with a gap or a damaged manifest (run
`shardmill verify`). Runs themselves stay: their folders are small and say where a model came from.

**What it costs:** requests that list the lake and read its manifests; no cluster.

**What it leaves behind:** the log of its task names each object and the reason; the lake has what is needed, no more.

**While it runs** pipelines may run too. Name no recipe that you are about to use again.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from shardmill.specs.garbage import GarbageSpec
from shardmill_airflow import garbage_tasks
from shardmill_airflow.forms import form_of
from shardmill_airflow.notifying import watched
from shardmill_airflow.outcomes import remember_failure


@dag(
    schedule=None,
    catchup=False,
    max_active_runs=1,
    params=form_of(GarbageSpec),
    tags=["shardmill", "lake"],
    doc_md=__doc__,
    dagrun_timeout=timedelta(days=1),
    default_args={
        "owner": "shardmill",
        "retries": 1,
        "retry_delay": timedelta(minutes=1),
        "execution_timeout": timedelta(hours=12),
        "on_failure_callback": remember_failure,
    },
    **watched(form_of(GarbageSpec)),
)
def collect_garbage() -> None:
    garbage_tasks.collect()


collect_garbage()
