"""What a stage does for one shard."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shardmill.specs.shard_runs import WorkersRun
from shardmill.stages.opened import OpenRun
from shardmill.stages.outcomes import Say, ShardOutcome, Work, say_it

if TYPE_CHECKING:
    from shardmill.jobs.split import Splitting


def ingesting(opened: OpenRun) -> Work:
    """Give what takes a shard into the lake."""
    from shardmill.jobs.ingest import Copying, ingest_shard

    sources = {planned.shard: planned.source for planned in opened.plan.shards}
    asked, copying = opened.run.video, Copying(opened.access.source_settings)
    return lambda shard: ingest_shard(opened.lake, asked.dataset, (shard, sources[shard]), asked.ingest, copying)


def splitting(opened: OpenRun, say: Say) -> Work:
    """Give what cuts a shard, and makes its records on the way where the run asks for it."""
    from shardmill.jobs.split import Splitting, split_shard

    asked = opened.run.video
    retries = {planned.shard: planned.retry_of for planned in opened.plan.shards}
    how = Splitting(
        max_reject_share=asked.max_reject_share,
        workers=opened.workers,
        settings=opened.access.source_settings,
        progress=say,
        watch=lambda line: opened.show(say_it(line, say)),
    )
    fusing = _Fusing(opened, say) if asked.fused else None

    def cut(shard: int) -> ShardOutcome:
        planned = replace(how, retry_of=retries[shard])
        if fusing is not None:
            return fusing.split(shard, planned)
        return split_shard(opened.lake, asked.dataset, shard, asked.split_recipe, planned)

    return cut


class _Fusing:
    """Splits shards and makes their records at once."""

    def __init__(self, opened: OpenRun, say: Say) -> None:
        from shardmill.jobs.label import given_table, label_table

        self._opened, self._say = opened, say
        if opened.plan.labels and isinstance(opened.run.asked, WorkersRun):
            self._table = label_table(opened.lake, opened.run)
        else:
            self._table = given_table(opened.run, opened.settings_of(opened.run.video.labels))
        self._recipe = opened.run.video.feature_recipe(self._table.digest)

    def split(self, shard: int, how: Splitting) -> ShardOutcome:
        """Do both for a shard. What an earlier try cut is decoded once more for its records."""
        from shardmill.jobs.features import Featurizing, Prepared, featurize_shard
        from shardmill.jobs.split import split_shard

        lake, asked, settings = self._opened.lake, self._opened.run.video, self._opened.access.source_settings
        with lake.scratch("described-") as folder:
            prepared = Prepared(self._recipe, folder, settings)
            done = split_shard(lake, asked.dataset, shard, asked.split_recipe, replace(how, footage=prepared.take))
            making = Featurizing(max_reject_share=asked.max_reject_share, settings=settings, prepared=prepared)
            records = featurize_shard(lake, (asked.dataset, shard), self._recipe, self._table, making)
            self._say(f"shard {shard:06d}: {records.records} records ({records.why})")
        return done


def describing(opened: OpenRun, labels: str, say: Say) -> Work:
    """Give what makes the records of a shard.

    Args:
        labels: digest of the run's label table.
    """
    from shardmill.jobs.features import Featurizing, featurize_shard
    from shardmill.jobs.label import label_table

    asked, table = opened.run.video, label_table(opened.lake, opened.run)
    recipe = asked.feature_recipe(labels)

    def count(done: int, total: int) -> None:
        if done == total or done % 100 == 0:
            say(f"{done} of {total} videos")

    how = Featurizing(max_reject_share=asked.max_reject_share, progress=count, settings=opened.access.source_settings)
    return lambda shard: featurize_shard(opened.lake, (asked.dataset, shard), recipe, table, how)
