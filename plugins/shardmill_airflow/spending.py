"""What a run will pay for: planned, checked and written down before it does; and what it came to in the end."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shardmill_airflow.account_look import WORKS, Look, look
from shardmill_airflow.connections import client
from shardmill_airflow.run_clusters import cluster_name

if TYPE_CHECKING:
    from shardmill.core.estimates import Load
    from shardmill.core.record_estimates import RecordLoad
    from shardmill.core.run_plan import Where
    from shardmill.specs.prices import Prices
    from shardmill.specs.run import RunClusters
    from shardmill.specs.video_pipeline import VideoPipelineSpec
    from shardmill.stages import OpenRun

log = logging.getLogger(__name__)
FILE = "clusters.json"
SPENT = "spent.json"
TOLD = "spending_told.txt"
"""Written when people were told, so that no retry and no clearing of the report tells them again."""


def plan_clusters(opened: OpenRun) -> RunClusters:
    """Write down what a run will do, which clusters it will make, with the exact requests, and what it may cost.

    A run that is planned again keeps what it planned first; its account is looked at again.

    Raises:
        BadRequestError: a wrong price file, or a cluster that cannot be asked for.
        RefusedError: what in the account does not fit the clusters, all of it together.
        BudgetError: more than `max_usd`, or more work than fits into `max_hours`.
    """
    from shardmill.adapters import run_folder
    from shardmill.adapters.prices import read_prices
    from shardmill.core.plan_lines import plan_lines
    from shardmill.core.run_plan import Where

    asked = opened.run.on_cluster
    prices = read_prices(asked.prices, opened.settings_of(asked.prices) if asked.prices else None)
    found = look(opened)
    region = client("emr").meta.region_name if found.drafts else prices.region
    planned = _plan_costs(opened, found, prices, Where(region, found.types))
    checks = {"checked": tuple(found.findings.right), "not_checked": tuple(found.findings.not_checked)}
    planned = planned.model_copy(update=checks)
    planned = planned.model_copy(update={"words": tuple(plan_lines(planned))})
    return run_folder.freeze(opened.lake, opened.run.run, FILE, planned)


def _plan_costs(opened: OpenRun, found: Look, prices: Prices, where: Where) -> RunClusters:
    from shardmill.core.record_estimates import plan_record_costs
    from shardmill.core.run_plan import plan_costs
    from shardmill.specs.video_pipeline import VideoPipelineSpec

    if isinstance(opened.run.asked, VideoPipelineSpec):
        load = replace(_load(opened, prices), other_region=found.other_region)
        return plan_costs(load, found.drafts, prices, where)
    records = replace(_record_load(opened, prices), other_region=found.other_region)
    return plan_record_costs(records, found.drafts, prices, where)


def _record_load(opened: OpenRun, prices: Prices) -> RecordLoad:
    from shardmill.core.record_estimates import RecordLoad
    from shardmill.jobs.plan_records import missing_files

    asked, plan = opened.run.on_records, opened.files
    return RecordLoad(asked, plan, frozenset(missing_files(opened.lake, asked, plan)), prices.rates)


def _load(opened: OpenRun, prices: Prices) -> Load[VideoPipelineSpec]:
    """Put together what the run has before it: its frozen listing, and what manifests know of its shards."""
    from shardmill.adapters.shard_index import read_index
    from shardmill.core.estimates import Load
    from shardmill.core.stage_output import StageOutput

    asked, shards = opened.run.video_pipeline, opened.plan.shards
    index = read_index(opened.lake, StageOutput("clips", asked.dataset, asked.split_recipe.hash), keep=False)
    found = ((planned, index.rows.get(planned.shard)) for planned in shards)
    rows = {planned.shard: row for planned, row in found if row is not None and row.source == planned.source}
    return Load(asked, shards, rows, prices.rates)


def tell_spending(opened: OpenRun) -> None:
    """Tell those whom the run names, once a run, where its clusters came to more than was planned."""
    from shardmill.adapters import run_folder
    from shardmill.core.notices import spending_notice
    from shardmill.specs.run import RunClusters
    from shardmill.specs.spent import RunSpent
    from shardmill_airflow.channels import send
    from shardmill_airflow.notifying import recipients

    lake, run = opened.lake, opened.run
    planned = run_folder.find(lake, run.run, FILE, RunClusters)
    spent = run_folder.find(lake, run.run, SPENT, RunSpent)
    notice = spending_notice(run.run, planned, spent) if planned and spent else None
    if notice:
        log.warning("%s", notice.text)
        told = run_folder.run_key(run.run, TOLD)
        if lake.head(told) is None and send(recipients(run.asked.model_dump()), notice):
            lake.put_new(told, notice.text.encode())


def note_spent(opened: OpenRun) -> None:
    """Write down what the run's clusters came to, ended or not, and say it beside the plan.

    The report is to be written whatever EMR answers: where it does not, that is said.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    from shardmill.adapters import run_folder
    from shardmill.adapters.spent import find_spent
    from shardmill.core.cost_rows import spent_lines
    from shardmill.core.spent import merged, priced
    from shardmill.specs.run import RunClusters
    from shardmill.specs.spent import RunSpent

    lake, run = opened.lake, opened.run
    planned = run_folder.find(lake, run.run, FILE, RunClusters)
    if planned is None or run.on_cluster.dry_run:
        return
    works = {cluster_name(run.folder, work): work for work in WORKS}
    now = datetime.now(UTC)
    try:
        found = find_spent(client("emr"), works, datetime.fromisoformat(run.started), now)
    except (BotoCoreError, ClientError) as error:
        log.warning("EMR did not say what the clusters of this run came to: %s", error)
        return
    before = run_folder.find(lake, run.run, SPENT, RunSpent)
    spent = merged(before, priced(found, planned), now.isoformat(timespec="seconds"))
    if before and spent.clusters == before.clusters:
        spent = before  # nothing came since: what lies there says when that was seen first
    elif spent.clusters:
        # Not frozen as the plan is: a task that is cleared may make another cluster.
        lake.put(run_folder.run_key(run.run, SPENT), spent.to_json())
    for line in spent_lines(planned, spent):
        log.info("%s", line)
