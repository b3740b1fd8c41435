"""The tasks of a run that trains on records, before its cluster comes up. Each does only what is missing."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from shardmill_airflow.connections import access
from shardmill_airflow.forms import read_form
from shardmill_airflow.linked import NAMED_BY_SHARDS, task
from shardmill_airflow.links import leave_links
from shardmill_airflow.outcomes import failing_for_good, summarised
from shardmill_airflow.run_clusters import check_records_reach
from shardmill_airflow.tasks import do_stage, open_run

log = logging.getLogger(__name__)


@task(task_id="plan")
def plan_records(params: dict[str, Any] | None = None, dag_run: Any = None, ti: Any = None) -> list[list[int]]:
    """Check what was asked, freeze it and the list of files in the run's folder, and batch the files.

    The URI of the run's spec.json stays under the key ``spec_uri``; the batches are what others map over.
    """
    from shardmill.core.planning import BadRequestError
    from shardmill.jobs.plan_records import plan_records as plan_run
    from shardmill.specs.train_on_records import TrainOnRecordsSpec

    asked = read_form(TrainOnRecordsSpec, params or {}, dag_run.conf)
    with summarised() as lines, failing_for_good():
        if not asked.lake.startswith("s3://"):
            raise BadRequestError(f"lake: EMR reads and writes s3:// only, found {asked.lake}")
        check_records_reach(asked)
        reached = access(asked.source_connection)
        planned = plan_run(asked, f"{dag_run.dag_id}.{dag_run.run_id}", reached)
        leave_links(ti, reached.lake, folder=f"{planned.run.folder}/")
        for line in planned.lines:
            log.info("%s", line)
        lines.append(planned.summary)
        log.info("%s; the run's folder is %s", lines[-1], planned.run.folder)
    ti.xcom_push("spec_uri", planned.spec_uri)
    return [list(batch) for batch in planned.batches]


# What is there is not fetched again, so that each try of a long download costs only what is left.
@task(
    retries=6, retry_exponential_backoff=2.0, max_retry_delay=timedelta(minutes=15), map_index_template=NAMED_BY_SHARDS
)
def fetch(spec_uri: str, batch: list[int]) -> list[int]:
    """Fetch a batch of files into the lake, or count them where they lie; what is there is not fetched again."""
    do_stage("fetch", spec_uri, batch)
    return batch


@task(trigger_rule="none_failed")
def find(spec_uri: str) -> str:
    """Freeze which records are trained on and evaluated on; refuse what cannot be trained."""
    do_stage("find", spec_uri, open_run(spec_uri).numbers)
    return spec_uri
