"""Garbage collection as a task."""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import get_current_context

from shardmill_airflow.connections import access
from shardmill_airflow.forms import read_form
from shardmill_airflow.linked import task
from shardmill_airflow.links import leave_links
from shardmill_airflow.outcomes import failing_for_good, summarised

log = logging.getLogger(__name__)


@task
def collect(params: dict[str, Any] | None = None, dag_run: Any = None) -> dict[str, Any]:
    """Delete, or only say, what nothing in the lake refers to; each object and its reason stand in the log."""
    from shardmill.jobs.collect_garbage import collect_garbage
    from shardmill.specs.garbage import GarbageSpec

    asked = read_form(GarbageSpec, params or {}, dag_run.conf)
    with summarised() as lines, failing_for_good():
        reached = access()
        reached.roots.check_lake("lake", asked.lake)
        leave_links(get_current_context()["ti"], reached.lake, folder=f"{asked.lake}/")
        collected = collect_garbage(asked, reached.lake, log.info)
        lines.append(collected.summary)
        log.info("%s", lines[-1])
    return {"deleted": collected.deleted, "objects": collected.objects, "bytes": collected.bytes}
