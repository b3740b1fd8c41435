"""Split shards of videos into clips."""

from shardmill.jobs.split.shard import EmptyShardError, Outcome, Splitting, split_shard

__all__ = ["EmptyShardError", "Outcome", "Splitting", "split_shard"]
