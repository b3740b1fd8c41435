"""### Ends clusters that nothing needs any more, and reports those that are alive

**What a run does:** looks at every live EMR cluster of this account and region that is tagged `shardmill=run`, and ends
those past their deadline, those whose run is over, all but the oldest of those with one name, and old ones without
a deadline. It says why each ends and what it cost.

**What it costs:** some requests to EMR; it makes nothing that costs, and ends what does.

**What it leaves behind:** in the lake `reports/clusters.html` and `.json`: which clusters are alive, whose they are,
since when, and what they cost so far.

**What it never touches:** clusters without that tag, and, until their deadline, those of runs that this Airflow does
not know (they may be another's).

**When:** every 15 minutes. Keep it unpaused. It is not the only guard: pipelines end their own clusters, EMR ends
idle ones, nodes shut themselves down at the deadline, and `deploy/` has a reaper that needs no Airflow.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, dag

from shardmill.specs.reaping import ReapSpec
from shardmill_airflow import reaping
from shardmill_airflow.forms import form_of
from shardmill_airflow.notifying import watched
from shardmill_airflow.outcomes import remember_failure


@dag(
    # Without a run for the quarter of an hour in which it is unpaused.
    schedule=CronTriggerTimetable("*/15 * * * *", timezone="UTC", run_immediately=timedelta(0)),
    catchup=False,
    max_active_runs=1,
    params=form_of(ReapSpec),
    tags=["shardmill", "clusters"],
    doc_md=__doc__,
    dagrun_timeout=timedelta(minutes=30),
    default_args={
        "owner": "shardmill",
        "retries": 1,
        "retry_delay": timedelta(seconds=30),
        "execution_timeout": timedelta(minutes=12),
        "on_failure_callback": remember_failure,
    },
    **watched(form_of(ReapSpec)),
)
def reap_clusters() -> None:
    reaping.reap()


reap_clusters()
