"""Do the first shard of a backfill, measure it, and hold it against the plan."""

from __future__ import annotations

import time
from collections.abc import Callable

from shardmill.adapters import lake as commits
from shardmill.adapters import run_folder
from shardmill.adapters.access import Access
from shardmill.adapters.cores import usable_cores
from shardmill.adapters.prices import read_prices
from shardmill.adapters.shard_index import read_index
from shardmill.adapters.store import Store
from shardmill.core.canary import Limits, check_canary, compare
from shardmill.core.estimates import Load
from shardmill.core.forecast import forecast_shards
from shardmill.core.rejects import RejectsMayPassError, TooManyRejectsError
from shardmill.core.stage_output import StageOutput
from shardmill.specs.canary import CanaryFound
from shardmill.specs.manifest import Manifest, Stage
from shardmill.specs.run import PlannedShard, RunPlan, RunSpec
from shardmill.specs.shard_runs import BackfillSpec

FILE = "canary.json"


def fly_canary(lake: Store, run: RunSpec, plan: RunPlan, do: Callable[[int], object]) -> CanaryFound:
    """Do the first of the run's shards and write down what it took; a canary that has flown is not flown again.

    One of which nothing was published, for too much was refused, is told and not written down: cleared, it flies again.

    Args:
        do: does a shard at all stages.
    """
    shard = plan.unfinished[0].shard
    flown = run_folder.find(lake, run.run, FILE, CanaryFound)
    if flown is not None:
        return flown
    before = {part.name for manifest in _made(lake, run, plan, shard) for part in manifest.parts}
    started = time.monotonic()
    try:
        do(shard)
    except (TooManyRejectsError, RejectsMayPassError) as error:
        rejects, samples = error.refused
        return CanaryFound(
            shard=shard,
            seconds=round(time.monotonic() - started, 3),
            cores=_cores(samples),
            samples=samples,
            rejects=rejects,
            stored=0,
            refused=str(error),
        )
    seconds = time.monotonic() - started
    after = _made(lake, run, plan, shard)
    found = CanaryFound(
        shard=shard,
        seconds=round(seconds, 3),
        cores=_cores(after[1].samples_in),
        samples=after[1].samples_in,
        rejects=sum(len(manifest.rejects) for manifest in after),
        stored=sum({part.name: part.size for one in after for part in one.parts if part.name not in before}.values()),
    )
    return run_folder.freeze(lake, run.run, FILE, found)


def _cores(samples: int) -> int:
    """Count the cores that could work at a shard: one a video at most."""
    return max(1, min(usable_cores(), samples))


def _made(lake: Store, run: RunSpec, plan: RunPlan, shard: int) -> list[Manifest]:
    """Read what the lake holds of a shard: raw, clips, records."""
    asked = run.video
    records = asked.feature_recipe(plan.labels).hash
    recipes: dict[Stage, str] = {"raw": "", "clips": asked.split_recipe.hash, "features": records}
    found = [commits.latest_revision(lake, stage, asked.dataset, recipe, shard) for stage, recipe in recipes.items()]
    return [revision.manifest for revision in found if revision is not None]


def judge_canary(lake: Store, asked: BackfillSpec, planned: PlannedShard, found: CanaryFound, access: Access) -> str:
    """Say how the canary compares with what was planned of it. Raises CanaryError where it is too far from it."""
    index = read_index(lake, StageOutput("clips", asked.dataset, asked.split_recipe.hash), keep=False)
    others = {shard: row for shard, row in index.rows.items() if shard != planned.shard}
    prices = read_prices(asked.prices, access.settings_of(asked.prices, asked.source) if asked.prices else None)
    (plan,) = forecast_shards(Load(asked, (planned,), others, prices.rates), prices, found.cores)
    limits = Limits(asked.canary_factor, asked.canary_reject_share)
    return check_canary(planned.shard, compare(plan, found, limits))
