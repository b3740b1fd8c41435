"""The tasks of runs that make records on the workers: each night what is due, and ranges of shards."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowSkipException

from shardmill_airflow.connections import access
from shardmill_airflow.forms import read_form
from shardmill_airflow.linked import NAMED_BY_SHARDS, task
from shardmill_airflow.links import leave_links
from shardmill_airflow.outcomes import failing_for_good, summarised
from shardmill_airflow.tasks import do_stage, link_run, open_run

if TYPE_CHECKING:
    from shardmill.core.freshness import Announced
    from shardmill.jobs.plan import Planned
    from shardmill.specs.fresh import Fresh
    from shardmill.specs.run import RunSpec
    from shardmill.specs.run_kinds import VideoAsked
    from shardmill.stages import OpenRun

log = logging.getLogger(__name__)
RECORDS = Asset("shardmill-records", uri="x-shardmill://records")
"""Updated when enough shards of a data set are fresh: what trains on records may follow."""
EVENTS = 100
"""Latest updates that are looked through for the data set's own."""


@task(task_id="plan")
def plan_nightly(params: dict[str, Any] | None = None, dag_run: Any = None, ti: Any = None) -> list[list[int]]:
    """Choose the shards of the night, freeze them in the run's folder, and batch them; the log says why each is due."""
    from shardmill.specs.shard_runs import NightlySpec

    with summarised() as lines, failing_for_good():
        planned = _plan(read_form(NightlySpec, params or {}, dag_run.conf), dag_run)
        leave_links(ti, access(planned.run.asked.source_connection).lake, folder=f"{planned.run.folder}/")
        lines.append(planned.summary)
    ti.xcom_push("spec_uri", planned.spec_uri)
    return [list(batch) for batch in planned.batches]


def _plan(asked: VideoAsked, dag_run: Any) -> Planned:
    from shardmill.jobs.plan import plan_run

    planned = plan_run(asked, f"{dag_run.dag_id}.{dag_run.run_id}", access(asked.source_connection))
    for line in planned.lines:
        log.info("%s", line)
    log.info("%s; the run's folder is %s", planned.summary, planned.run.folder)
    return planned


@task(task_id="plan")
def plan_backfill(params: dict[str, Any] | None = None, dag_run: Any = None, ti: Any = None) -> list[list[int]]:
    """Say what is to be done of the range, and what it may take; freeze and batch it, or stop there for a preview."""
    from shardmill.core.shard_dates import at_date
    from shardmill.specs.shard_runs import BackfillSpec

    with summarised() as lines, failing_for_good():
        asked = at_date(read_form(BackfillSpec, params or {}, dag_run.conf), dag_run.partition_key or "")
        planned = _plan(asked, dag_run)
        leave_links(ti, access(asked.source_connection).lake, folder=f"{planned.run.folder}/")
        preview = "; preview: nothing is begun, trigger it with preview = false" if asked.preview else ""
        lines.append(f"{planned.plan.notes[-1]}{preview}")
        log.info("%s", lines[-1])
    ti.xcom_push("spec_uri", planned.spec_uri)
    return [list(batch) for batch in planned.batches]


@task
def canary(spec_uri: str, ti: Any = None) -> None:
    """Do the first shard alone and hold its time, rejects and USD against the plan; nothing follows if they differ."""
    from shardmill import stages
    from shardmill.core.canary import CanaryError
    from shardmill.jobs.fly_canary import fly_canary, judge_canary
    from shardmill.specs.shard_runs import BackfillSpec

    opened = open_run(spec_uri)
    link_run(ti, opened)
    asked, plan = opened.run.asked, opened.plan
    if not isinstance(asked, BackfillSpec) or asked.preview or not plan.unfinished:
        raise AirflowSkipException("nothing is to be done")
    if not asked.canary:
        log.info("no canary is asked for")
        return
    with summarised() as lines, failing_for_good(*stages.hopeless_errors(), CanaryError):
        found = fly_canary(opened.lake, opened.run, plan, lambda shard: stages.through(opened, [shard], log.info))
        lines.append(judge_canary(opened.lake, asked, plan.unfinished[0], found, opened.access))
        log.info("%s", lines[-1])


@task(map_index_template=NAMED_BY_SHARDS)
def shards(spec_uri: str, batch: list[int]) -> list[int]:
    """Take a batch of shards in, cut them and make their records, shard by shard; what is done is skipped."""
    do_stage("through", spec_uri, batch)
    return batch


@task(trigger_rule="none_failed")
def count(spec_uri: str, ti: Any = None) -> None:
    """Sum up what became of the run's shards; fails with them, or where no night does some, so that the run does."""
    from shardmill.core.nightly import TooLargeError, check_none_above_caps
    from shardmill.jobs.plan import done_line

    opened = open_run(spec_uri)
    link_run(ti, opened)
    with summarised() as lines, failing_for_good(TooLargeError):
        lines.append(done_line(opened.lake, opened.run))
        log.info("%s", lines[-1])
        check_none_above_caps(opened.plan.above_caps)


@task(trigger_rule="all_done", inlets=[RECORDS], outlets=[RECORDS])
def announce(spec_uri: str, *, ti: Any = None, inlet_events: Any = None, outlet_events: Any = None) -> None:
    """Tell those who train that enough shards are fresh; skipped where they are not, or nothing is new since."""
    from shardmill.core.freshness import fresh_lines, why_not_announced
    from shardmill.jobs.plan import find_fresh, keep_announced
    from shardmill.specs.shard_runs import NightlySpec

    if not spec_uri.endswith("/spec.json"):
        raise AirflowSkipException("nothing was planned")
    opened = open_run(spec_uri)
    link_run(ti, opened)
    asked = opened.run.video
    with summarised() as lines:
        fresh = find_fresh(opened.lake, opened.run, opened.access)
        for line in fresh_lines(fresh):
            log.info("%s", line)
        missing_ok = asked.missing_ok if isinstance(asked, NightlySpec) else 0
        why = why_not_announced(fresh, missing_ok, _announced(inlet_events, opened, fresh))
        lines.append(f"{next(fresh_lines(fresh))}; {why or 'training may follow'}")
    if why:
        raise AirflowSkipException(why)
    keep_announced(opened.lake, opened.run.run, fresh)
    outlet_events[RECORDS].extra = _told(opened.run, fresh)


def _announced(events: Any, opened: OpenRun, fresh: Fresh) -> Announced:
    """Give what was announced last of this range of the data set, by this recipe."""
    from shardmill.core.freshness import Announced
    from shardmill.jobs.plan import find_announced

    place = _place(opened.run, fresh)
    for event in events[RECORDS].ascending(False).limit(EVENTS):
        extra: Mapping[str, Any] = event.extra or {}
        if all(extra.get(name) == value for name, value in place.items()):
            return find_announced(opened.lake, str(extra["run"]), str(extra["digest"]))
    return Announced()


def _place(run: RunSpec, fresh: Fresh) -> dict[str, str]:
    """Tell events apart: a night over a part of the range says nothing of the whole."""
    asked = run.video
    return {"lake": asked.lake, "dataset": fresh.dataset, "recipe": fresh.recipe, "shards": asked.shards}


def _told(run: RunSpec, fresh: Fresh) -> dict[str, Any]:
    """Make what the event holds; ``train`` is what video_pipeline may be triggered with as it is."""
    from shardmill.core.freshness import shard_range
    from shardmill.specs.video_pipeline import VideoRun

    asked = run.video
    train = {name: getattr(asked, name) for name in VideoRun.model_fields} | {"shards": fresh.shards}
    return {
        "run": run.run,
        **_place(run, fresh),
        "digest": fresh.digest,
        "fresh": fresh.count,
        "missing": shard_range(fresh.missing),
        "train": train | {"retry_rejects": False},
    }
