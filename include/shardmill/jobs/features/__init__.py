"""Make YouTube-8M records of shards of clips."""

from shardmill.jobs.features.prepared import Prepared
from shardmill.jobs.features.shard import Featurizing, Outcome, featurize_shard

__all__ = ["Featurizing", "Outcome", "Prepared", "featurize_shard"]
