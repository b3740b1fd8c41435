"""The reaper as a task: what Airflow knows of the runs that clusters work for."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow.sdk import get_current_context

from shardmill_airflow.connections import access, client
from shardmill_airflow.forms import read_form
from shardmill_airflow.linked import ReportTask, task
from shardmill_airflow.links import leave_links
from shardmill_airflow.outcomes import failing_for_good, summarised

if TYPE_CHECKING:
    from shardmill.adapters.access import Access
    from shardmill.adapters.store import Store
    from shardmill.specs.reaping import ReapSpec, RunState

log = logging.getLogger(__name__)
LIVE = ["queued", "running"]
RUN_ID = "run_id"
"""Tag of a cluster that holds the id of its DAG run, of which the run's name is made."""
_TAG_VALUE = re.compile(r"[\w .:/=+@-]{1,256}")
FIRST = 1000
"""Priority: where slots are scarce, ending what costs money goes before work that will."""


@task(of=ReportTask, priority_weight=FIRST, weight_rule="absolute")
def reap(params: dict[str, Any] | None = None, dag_run: Any = None) -> dict[str, Any]:
    """End clusters that nothing needs any more; write a table of those alive into the log and the lake."""
    from shardmill.adapters.prices import read_prices
    from shardmill.core.reaping import table
    from shardmill.jobs import reap_clusters
    from shardmill.specs.reaping import ReapSpec

    asked = read_form(ReapSpec, params or {}, dag_run.conf)
    with summarised() as lines, failing_for_good():
        emr, reached = client("emr"), access()
        lake = report_lake(asked, reached)
        if asked.prices:
            reached.roots.check_source("prices", asked.prices)
        prices = read_prices(asked.prices, reached.lake if asked.prices else None)
        by = reap_clusters.Look(emr, emr.meta.region_name, prices, run_state, lake)
        report = reap_clusters.reap(asked, by)
        for line in table(report):
            log.info("%s", line)
        lines.append(report.summary)
        log.info("%s", lines[-1])
        if lake is None:
            log.info("no report is written: name a lake, or one in the environment of this installation")
        else:
            report = reap_clusters.publish(report, lake)
            page = lake.uri_of(reap_clusters.PAGE)
            leave_links(get_current_context()["ti"], lake.settings, folder=f"{lake.uri}/reports/", report=page)
            log.info("the report is at %s", lake.uri_of(reap_clusters.PAGE))
    if report.problems:
        raise RuntimeError("not everything could be looked at or ended: " + "; ".join(report.problems))
    return {"alive": len(report.alive), "ended": [one.cluster.id for one in report.ended if one.how == "ended"]}


def report_lake(asked: ReapSpec, reached: Access) -> Store | None:
    """Open the lake of the report: the one that is asked for, else the first of this installation, if it names one.

    Raises:
        BadRequestError: it may not be used.
    """
    from shardmill.adapters.store import Store

    uri = asked.lake or next((root for root in reached.roots.lakes if not root.endswith("://")), "")
    if not uri:
        return None
    reached.roots.check_lake("lake", uri)
    return Store(uri, reached.lake, create=True)


def run_state(tags: Mapping[str, str]) -> RunState:
    """Ask Airflow how the run is that a cluster works for. A run that it does not know may be another Airflow's.

    So is one in a lake that is none of this installation, whatever its name.
    """
    from shardmill.core.planning import BadRequestError

    dag_id, run_id = named_run(tags)
    if not run_id:
        return "unknown"
    if folder := tags.get("folder"):
        try:
            access().roots.check_lake("folder", folder)
        except BadRequestError:
            return "unknown"
    ti = get_current_context()["ti"]
    if not ti.get_dr_count(dag_id=dag_id, run_ids=[run_id]):
        return "unknown"
    return "live" if ti.get_dr_count(dag_id=dag_id, run_ids=[run_id], states=LIVE) else "over"


def named_run(tags: Mapping[str, str]) -> tuple[str, str]:
    """Read a DAG and the id of a run of it from a cluster's tags; empty where they do not give the run's name.

    A run's name does not always tell the id that it was made of; then it takes a tag.
    """
    from shardmill.jobs.plan import run_name

    run = tags.get("run", "")
    dag_id = tags.get("dag") or run.partition(".")[0]
    run_id = tags.get(RUN_ID) or run.removeprefix(f"{dag_id}.")
    return (dag_id, run_id) if run and run_name(f"{dag_id}.{run_id}") == run else ("", "")


def with_run_tags(
    request: Mapping[str, Any], context: Any, more: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """Give the arguments of RunJobFlow with the tags by which the reaper finds the DAG run that a cluster works for.

    What AWS takes in no tag is left out; then the cluster is left alone until its deadline.

    Args:
        more: tags besides.
    """
    dag_run = context["dag_run"]
    known = {"dag": dag_run.dag_id, RUN_ID: dag_run.run_id, **more}
    tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags", ())}
    tags |= {key: value for key, value in known.items() if _TAG_VALUE.fullmatch(value)}
    return {**request, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
