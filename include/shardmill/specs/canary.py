"""What the first shard of a backfill took."""

from __future__ import annotations

from pydantic import Field

from shardmill.specs.value import Sealed


class CanaryFound(Sealed):
    """What the canary took when it was done first, stored as ``runs/<run>/canary.json``."""

    shard: int
    seconds: float = Field(ge=0)
    """Wall time of all stages."""
    cores: int = Field(ge=1)
    """That could work at it: of the machine, within its quota, and not more than it has videos."""
    samples: int = Field(ge=0)
    """Published videos and rejects together."""
    rejects: int = Field(ge=0)
    stored: int = Field(ge=0)
    """Bytes of the parts that were made of it."""
    refused: str = ""
    """Why nothing of it was published; empty where it was."""
