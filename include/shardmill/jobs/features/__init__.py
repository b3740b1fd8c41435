"""Make YouTube-8M records of shards of clips."""

from shardmill.jobs.features.shard import Featurizing, Outcome, ReconcileError, featurize_shard

__all__ = ["Featurizing", "Outcome", "ReconcileError", "featurize_shard"]
