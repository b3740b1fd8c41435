"""Look at the shards that a run asks for: at their source, and at what the lake holds of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shardmill.adapters.access import Access
from shardmill.adapters.shard_index import Asked, survey_shards
from shardmill.adapters.store import MissingObjectError, Store
from shardmill.core import planning
from shardmill.core.shard_dates import shards_of_date
from shardmill.core.shard_states import ShardStates
from shardmill.jobs.plan.listing import Listed, list_shards, sources_of
from shardmill.specs.run import PlannedShard
from shardmill.specs.shard_runs import BackfillSpec
from shardmill.specs.video_pipeline import VideoRun


@dataclass(frozen=True)
class Surveyed:
    """The shards that a run asks for, ascending, and what is to be done for them."""

    listed: Mapping[int, Listed]
    states: ShardStates

    def planned(self, *, retry: bool) -> tuple[PlannedShard, ...]:
        """Say of each shard why it is to be done; ``retry`` tries rejects again that may pass now."""
        return tuple(self._planned(shard, retry=retry) for shard in self.listed)

    def _planned(self, shard: int, *, retry: bool) -> PlannedShard:
        todo, retry_of = self.states.todo(shard), self.states.retry_of(shard) if retry else None
        if retry_of is not None:
            todo = {
                **todo,
                "clips": f"rejects of revision {retry_of} may pass now",
                "features": "its clips will change",
            }
        return PlannedShard(shard=shard, source=self.listed[shard].source, todo=todo, retry_of=retry_of)


def survey(lake: Store, asked: VideoRun, access: Access, labels: str, *, keep: bool = True) -> Surveyed:
    """List the source and judge the shards of the run's range.

    Args:
        labels: digest of the label table; empty while it is not known.
        keep: write indexes back that changed.

    Raises:
        BadRequestError: the source is not there, nothing is found, or a shard that is asked for is absent.
    """
    try:
        listed = list_shards(Store(asked.source, access.source_settings))
    except MissingObjectError as error:
        raise planning.BadRequestError(f"source: {error}") from error
    among = shards_of_date(asked) if isinstance(asked, BackfillSpec) else None
    chosen = planning.choose_shards(asked.shards, sources_of(listed), asked.source, among)
    recipe = asked.feature_recipe(labels) if labels else None
    wanted = Asked(asked.dataset, asked.split_recipe, recipe, asked.ingest)
    return Surveyed({number: listed[number] for number in chosen}, survey_shards(lake, wanted, chosen, keep=keep))
