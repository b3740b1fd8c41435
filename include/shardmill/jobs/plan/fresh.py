"""Find what is fresh when a run has done its shards, or as many as it could."""

from __future__ import annotations

from shardmill.adapters.access import Access
from shardmill.adapters.run_folder import find, load, run_key
from shardmill.adapters.store import Store
from shardmill.core.freshness import Announced, find_fresh_shards
from shardmill.jobs.plan.survey import survey
from shardmill.specs.fresh import Fresh
from shardmill.specs.run import RunPlan, RunSpec

FILE = "fresh.json"


def find_fresh(lake: Store, run: RunSpec, access: Access) -> Fresh:
    """Look at the run's range as it is now, and write down in the run's folder what of it is fresh.

    Raises:
        BadRequestError: the source is not there any more, or a shard of the range is not.
    """
    asked, labels = run.video, load(lake, run.run, "plan.json", RunPlan).labels
    states = survey(lake, asked, access, labels).states
    fresh = find_fresh_shards(states, asked.dataset, asked.feature_recipe(labels).hash)
    # Not frozen: a task that is cleared may find more.
    lake.put(run_key(run.run, FILE), fresh.to_json())
    return fresh


def keep_announced(lake: Store, run: str, fresh: Fresh) -> None:
    """Keep what training is called for, beside ``fresh.json``, which a cleared task may write anew."""
    lake.put_new(run_key(run, _announced(fresh.digest)), fresh.to_json())


def find_announced(lake: Store, run: str, digest: str) -> Announced:
    """Read what a run called training for.

    Args:
        digest: as the run's event told it.
    """
    kept = find(lake, run, _announced(digest), Fresh)
    return Announced(digest, kept.records if kept else {})


def _announced(digest: str) -> str:
    return f"announced/{digest}.json"
