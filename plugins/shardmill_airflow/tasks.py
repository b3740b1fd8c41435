"""The stages of a pipeline as tasks. Each does only what is missing, and says so."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, get_current_context

from shardmill_airflow.connections import access
from shardmill_airflow.forms import read_form
from shardmill_airflow.linked import NAMED_BY_SHARDS, SHARDS, LinkedShortCircuit, ReportTask, name_of, task
from shardmill_airflow.links import REPORT, leave_links
from shardmill_airflow.outcomes import FAILURE, SUMMARY, failing_for_good, summarised
from shardmill_airflow.run_clusters import check_reach
from shardmill_airflow.spending import note_spent, plan_clusters, tell_spending

if TYPE_CHECKING:
    from shardmill.stages import OpenRun

log = logging.getLogger(__name__)
PROGRESS = "progress"
"""Key under which a running task tells how far it is; the UI shows it with the task."""
MODELS = Asset("shardmill-models", uri="x-shardmill://models")


def open_run(spec_uri: str) -> OpenRun:
    """Open the lake of a run through the connections."""
    from shardmill import stages

    return stages.open_run(spec_uri, access)


def link_run(ti: Any, opened: OpenRun, report: str = "") -> dict[str, str]:
    """Leave links to a run's folder, and to its report where it is written; give them by their names."""
    uris = {"folder": f"{opened.run.folder}/"} | ({"report": report} if report else {})
    return leave_links(ti, opened.lake.settings, **uris)


def do_stage(stage: str, spec_uri: str, shards: Sequence[int]) -> None:
    """Do a stage for some shards of a run; its last line stays with the task, and its progress shows in the UI."""
    from shardmill import stages

    context: Any = get_current_context()
    context[SHARDS] = name_of(shards)
    ti, opened = context["ti"], open_run(spec_uri)
    link_run(ti, opened)

    def show(line: str) -> None:
        try:
            ti.xcom_push(PROGRESS, line)
        except Exception as error:  # noqa: BLE001  (it is only told: the work goes on)
            log.warning("progress is not shown: %s", error)

    with summarised() as lines, failing_for_good(*stages.hopeless_errors()):
        lines.append(stages.STAGES[stage](replace(opened, show=show), shards, log.info))


@task
def plan(params: dict[str, Any] | None = None, dag_run: Any = None, ti: Any = None) -> list[list[int]]:
    """Check what was asked, freeze it and the source's listing in the run's folder, and batch the shards.

    The URI of the run's spec.json stays under the key ``spec_uri``; the batches are what others map over.
    """
    from shardmill.core.planning import BadRequestError
    from shardmill.jobs.plan import plan_run
    from shardmill.specs.video_pipeline import VideoPipelineSpec

    asked = read_form(VideoPipelineSpec, params or {}, dag_run.conf)
    with summarised() as lines, failing_for_good():
        if not asked.lake.startswith("s3://"):
            raise BadRequestError(f"lake: EMR reads and writes s3:// only, found {asked.lake}")
        check_reach(asked)
        reached = access(asked.source_connection)
        planned = plan_run(asked, f"{dag_run.dag_id}.{dag_run.run_id}", reached)
        leave_links(ti, reached.lake, folder=f"{planned.run.folder}/")
        for line in planned.lines:
            log.info("%s", line)
        lines.append(planned.summary)
        log.info("%s; the run's folder is %s", lines[-1], planned.run.folder)
    ti.xcom_push("spec_uri", planned.spec_uri)
    return [list(batch) for batch in planned.batches]


@task(of=LinkedShortCircuit)
def budget(spec_uri: str) -> bool:
    """Write down what the run will do, with which clusters, and what it may cost; refuse what is above the limit.

    With `dry_run` nothing comes behind it but the report.
    """
    from shardmill.core.plan_lines import plan_lines

    opened = open_run(spec_uri)
    link_run(get_current_context()["ti"], opened)
    with summarised() as lines, failing_for_good():
        clusters = plan_clusters(opened)
        for line in plan_lines(clusters):
            log.info("%s", line)
        stops = "; dry_run: nothing is begun" if opened.run.on_cluster.dry_run else ""
        lines.append(f"{clusters.summary}{stops}")
        log.info("%s; the requests are in %s/clusters.json", lines[-1], opened.run.folder)
    return not stops


@task(map_index_template=NAMED_BY_SHARDS)
def ingest(spec_uri: str, batch: list[int]) -> list[int]:
    """Take a batch of shards into the lake, by reference or as verified copies; what is present is skipped."""
    do_stage("ingest", spec_uri, batch)
    return batch


@task
def hand_out(spec_uri: str, batches: list[list[int]]) -> list[list[int]]:
    """Give the workers the batches to split, or none of them where a cluster does it."""
    opened = open_run(spec_uri)
    link_run(get_current_context()["ti"], opened)
    with summarised() as lines:
        mine = opened.run.video.where == "workers"
        lines.append(f"{len(batches)} batches for the workers" if mine else "a cluster of the run splits the shards")
        log.info("%s", lines[-1])
    return batches if mine else []


@task(map_index_template=NAMED_BY_SHARDS)
def split(spec_uri: str, batch: list[int]) -> list[int]:
    """Cut every video of a batch of shards into exact clips; what was cut by this recipe is skipped."""
    do_stage("split", spec_uri, batch)
    return batch


@task(trigger_rule="none_failed")
def label(spec_uri: str) -> str:
    """Settle the run's labels and their vocabulary; stop where no video has one."""
    do_stage("label", spec_uri, open_run(spec_uri).plan.numbers)
    return spec_uri


@task(map_index_template=NAMED_BY_SHARDS)
def features(spec_uri: str, batch: list[int]) -> list[int]:
    """Make YouTube-8M records of a batch of shards; what was made by this recipe is skipped."""
    do_stage("features", spec_uri, batch)
    return batch


@task(trigger_rule="none_failed")
def select(spec_uri: str) -> str:
    """Freeze which records are trained on and evaluated on; refuse what cannot be trained."""
    do_stage("select", spec_uri, open_run(spec_uri).plan.numbers)
    return spec_uri


@task(outlets=[MODELS])
def publish(spec_uri: str, *, outlet_events: Any = None) -> None:
    """Tell those who wait for models that this one is trained and evaluated."""
    from shardmill.jobs.report import summarise

    opened = open_run(spec_uri)
    link_run(get_current_context()["ti"], opened)
    with summarised() as lines:
        found = summarise(opened.lake, opened.run)
        lines.append(f"GAP {found.gap:.4f}, mAP {found.map:.4f}, Hit@1 {found.hit_at_1:.4f}, PERR {found.perr:.4f}")
        model = f"{opened.run.folder}/model/model.json"
        outlet_events[MODELS].extra = {"run": opened.run.run, "gap": found.gap, "model": model}
        log.info("%s", lines[-1])


@task(of=ReportTask)
def report(spec_uri: str) -> str:
    """Write the run's report, for failed runs too."""
    from shardmill.jobs.report import write_report

    context = get_current_context()
    ti = context["ti"]
    opened = open_run(spec_uri)
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id])[ti.run_id]
    with summarised() as lines:
        outcomes, failure = _task_outcomes(ti, states)
        note_spent(opened)
        tell_spending(opened)
        began = context["dag_run"].start_date
        took = (datetime.now(UTC) - began).total_seconds() if began else None
        lines.append(write_report(opened.lake, opened.run, outcomes, failure=failure, took=took))
        page = link_run(ti, opened, lines[-1]).get(REPORT)
        # The log is what the UI shows first of a task, and URLs in it can be clicked.
        log.info("the report is at %s", f"{lines[-1]}: {page}" if page else lines[-1])
    for teardown in ("delete_split_cluster", "delete_cluster"):
        if states.get(teardown) == "failed":
            raise RuntimeError(f"{teardown} failed: a cluster of this run may be alive; clear that task")
    return lines[-1]


def _task_outcomes(ti: Any, states: dict[str, str | None]) -> tuple[list[Any], str]:
    """Give the outcome of each task but the report itself, and the cause of each failure."""
    from shardmill.jobs.report import TaskOutcome

    outcomes, failures = [], []
    for name, state in states.items():
        task_id, map_index = _task_and_index(name)
        if task_id == ti.task_id:
            continue
        summary = ti.xcom_pull(task_ids=task_id, key=SUMMARY, map_indexes=map_index) or {}
        outcomes.append(TaskOutcome(task=name, state=str(state), seconds=summary.get("seconds")))
        if state == "failed":
            cause = ti.xcom_pull(task_ids=task_id, key=FAILURE, map_indexes=map_index)
            failures.append(f"{name}: {cause or 'see its log'}")
    return outcomes, "\n".join(failures)


def _task_and_index(name: str) -> tuple[str, int]:
    task_id, _, index = name.rpartition("_")
    return (task_id, int(index)) if task_id and index.isdigit() else (name, -1)
