"""Say what a run has before it, by what manifests tell and by the price file."""

from __future__ import annotations

from shardmill.adapters.access import Access
from shardmill.adapters.prices import read_prices
from shardmill.core.estimates import Load
from shardmill.jobs.plan.survey import Surveyed
from shardmill.specs.prices import Prices
from shardmill.specs.shard_runs import WorkersRun


def prices_of(asked: WorkersRun, access: Access) -> Prices:
    """Read the price file that a run names, or the one that comes with Shardmill. Raises BadRequestError."""
    return read_prices(asked.prices, access.settings_of(asked.prices, asked.source) if asked.prices else None)


def load_of(asked: WorkersRun, found: Surveyed, *, retry: bool, prices: Prices) -> Load[WorkersRun]:
    """Say what a run has before it, by the shards that are cut already and by the price file.

    Args:
        retry: try rejects again that may pass now.
    """
    clips = found.states.by_stage["clips"]
    rows = {shard: state.row for shard, state in clips.items() if state.state == "done" and state.row is not None}
    return Load(asked, found.planned(retry=retry), rows, prices.rates)
