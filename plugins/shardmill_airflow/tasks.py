"""The stages of a pipeline as tasks. Each does only what is missing, and says so."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, get_current_context, task

from shardmill_airflow.forms import read_form
from shardmill_airflow.outcomes import FAILURE, SUMMARY, failing_for_good, summarised

if TYPE_CHECKING:
    from shardmill.adapters.store import Store
    from shardmill.specs.run import RunSpec

log = logging.getLogger(__name__)
MODELS = Asset("shardmill-models", uri="x-shardmill://models")


def open_run(spec_uri: str) -> tuple[Store, RunSpec]:
    """Open the lake of a run and read the run's record."""
    from shardmill.adapters.run_folder import load_run
    from shardmill.adapters.store import Store
    from shardmill_airflow.connections import store_settings

    settings = store_settings()
    run = load_run(spec_uri, settings)
    return Store(run.asked.lake, settings), run


@task
def plan(params: dict[str, Any] | None = None, dag_run: Any = None, ti: Any = None) -> list[list[int]]:
    """Check what was asked, freeze it and the source's listing in the run's folder, and batch the shards.

    The URI of the run's spec.json stays under the key ``spec_uri``; the batches are what others map over.
    """
    from shardmill.jobs.plan import plan_run
    from shardmill.specs.video_pipeline import VideoPipelineSpec
    from shardmill_airflow.connections import store_settings

    asked = read_form(VideoPipelineSpec, params or {}, dag_run.conf)
    with summarised() as lines, failing_for_good():
        planned = plan_run(asked, f"{dag_run.dag_id}.{dag_run.run_id}", store_settings())
        lines.append(f"{len(planned.plan.numbers)} shards of {asked.source} in {len(planned.batches)} batches")
        log.info("%s; the run's folder is %s", lines[-1], planned.run.folder)
    ti.xcom_push("spec_uri", planned.spec_uri)
    return [list(batch) for batch in planned.batches]


@task
def ingest(spec_uri: str, batch: list[int]) -> list[int]:
    """Copy a batch of shards into the lake, verified; what is present and equal is skipped."""
    from shardmill.adapters.run_folder import load
    from shardmill.jobs.ingest import ingest_shard
    from shardmill.specs.run import RunPlan
    from shardmill_airflow.connections import store_settings

    lake, run = open_run(spec_uri)
    settings = store_settings()
    sources = {planned.shard: planned.source for planned in load(lake, run.run, "plan.json", RunPlan).shards}
    with summarised() as lines:
        outcomes = [ingest_shard(lake, run.asked.dataset, shard, sources[shard], settings) for shard in batch]
        _tell(lines, "copied", outcomes)
    return batch


@task
def split(spec_uri: str, batch: list[int]) -> list[int]:
    """Cut every video of a batch of shards into exact clips; what was cut by this recipe is skipped."""
    from shardmill.jobs.split import split_shard

    lake, run = open_run(spec_uri)
    asked = run.asked
    with summarised() as lines:
        outcomes = [
            split_shard(
                lake,
                asked.dataset,
                shard,
                asked.split_recipe,
                max_reject_share=asked.max_reject_share,
                progress=log.info,
            )
            for shard in batch
        ]
        _tell(lines, "split", outcomes)
    return batch


@task
def label(spec_uri: str, batches: list[list[int]]) -> str:
    """Settle the run's labels and their vocabulary; stop where no video has one."""
    from shardmill.jobs.label import label_run
    from shardmill_airflow.connections import store_settings

    lake, run = open_run(spec_uri)
    with summarised() as lines, failing_for_good():
        labels = label_run(lake, run, [shard for batch in batches for shard in batch], store_settings())
        lines.append(f"{labels.labelled} of {labels.videos} videos have labels: {', '.join(labels.vocabulary[:20])}")
        log.info("%s", lines[-1])
    return spec_uri


@task
def features(spec_uri: str, batch: list[int]) -> list[int]:
    """Make YouTube-8M records of a batch of shards; what was made by this recipe is skipped."""
    from shardmill.adapters.extractors import ExtractorError
    from shardmill.adapters.run_folder import load
    from shardmill.jobs.features import featurize_shard
    from shardmill.jobs.label import label_table
    from shardmill.specs.run import RunLabels, RunPlan
    from shardmill_airflow.connections import store_settings

    lake, run = open_run(spec_uri)
    plan_ = load(lake, run.run, "plan.json", RunPlan)
    settings = store_settings()
    table = label_table(lake, run, plan_.numbers, settings)
    recipe = run.asked.feature_recipe(load(lake, run.run, "labels.json", RunLabels).digest)
    with summarised() as lines, failing_for_good(ExtractorError):
        outcomes = [
            featurize_shard(lake, run.asked.dataset, shard, recipe, table, progress=_count_videos, settings=settings)
            for shard in batch
        ]
        _tell(lines, "made records of", outcomes)
    return batch


@task
def select(spec_uri: str, batches: list[list[int]]) -> str:
    """Freeze which records are trained on and evaluated on; refuse what cannot be trained."""
    from shardmill.adapters.run_folder import load
    from shardmill.jobs.select_records import select_records
    from shardmill.specs.run import RunLabels

    lake, run = open_run(spec_uri)
    with summarised() as lines, failing_for_good():
        shards = [shard for batch in batches for shard in batch]
        records = select_records(lake, run, shards, load(lake, run.run, "labels.json", RunLabels))
        counts = [sum(part.records for part in parts) for parts in (records.train, records.validation)]
        lines.append(f"{counts[0]} training and {counts[1]} validation records, {len(records.vocabulary)} labels")
        log.info("%s", lines[-1])
    return spec_uri


@task(outlets=[MODELS])
def publish(spec_uri: str, *, outlet_events: Any = None) -> None:
    """Tell those who wait for models that this one is trained and evaluated."""
    from shardmill.jobs.report import summarise

    lake, run = open_run(spec_uri)
    with summarised() as lines:
        found = summarise(lake, run)
        lines.append(f"GAP {found.gap:.4f}, mAP {found.map:.4f}, Hit@1 {found.hit_at_1:.4f}, PERR {found.perr:.4f}")
        outlet_events[MODELS].extra = {"run": run.run, "gap": found.gap, "model": f"{run.folder}/model/model.json"}
        log.info("%s", lines[-1])


@task
def report(spec_uri: str) -> str:
    """Write the run's report, for failed runs too."""
    from shardmill.jobs.report import write_report

    context = get_current_context()
    ti = context["ti"]
    lake, run = open_run(spec_uri)
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id])[ti.run_id]
    with summarised() as lines:
        outcomes, failure = _task_outcomes(ti, states)
        uri = write_report(lake, run, outcomes, failure=failure)
        lines.append(uri)
        log.info("the report is at %s", uri)
    if states.get("delete_cluster") == "failed":
        raise RuntimeError("delete_cluster failed: a cluster of this run may be alive; clear that task")
    return uri


def _task_outcomes(ti: Any, states: dict[str, str | None]) -> tuple[list[Any], str]:
    """Give the outcome of each task but the report itself, and the cause of the first failure."""
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


def _count_videos(done: int, total: int) -> None:
    if done == total or done % 100 == 0:
        log.info("%d of %d videos", done, total)


def _tell(lines: list[str], verb: str, outcomes: list[Any]) -> None:
    """Say for each shard what was done or why not, then the sum in one line."""
    for outcome in outcomes:
        log.info("shard %06d: %s (%s)", outcome.shard, "nothing to do" if outcome.skipped else verb, outcome.why)
    done = sum(not outcome.skipped for outcome in outcomes)
    lines.append(f"{verb} {done} of {len(outcomes)} shards" + ("" if done else ": nothing to do, all present"))
    log.info("%s", lines[-1])
