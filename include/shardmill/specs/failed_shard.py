"""A shard that nights could not do."""

from __future__ import annotations

from shardmill.specs.manifest import SourceObject
from shardmill.specs.value import Sealed


class FailedShard(Sealed):
    """In which nights a shard failed, stored as ``failed/<dataset>/NNNNNN.json``."""

    shard: int
    source: SourceObject
    """The version of it that they tried."""
    asked: str
    """Hash of the recipes and of the share of rejects that they allowed: with others it may pass."""
    runs: tuple[str, ...]
    """Each once, however often its task was tried."""
    why: str
    """The last error, shortened."""
