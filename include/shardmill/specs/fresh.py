"""How much of a data set is fresh: what training may rest on."""

from __future__ import annotations

from pydantic import Field

from shardmill.specs.value import Sealed


class Fresh(Sealed):
    """Which shards of a range have records of the recipe and of their source, stored as ``runs/<run>/fresh.json``."""

    dataset: str
    recipe: str
    """Hash of the records' recipe."""
    shards: str
    """Range of the fresh ones, e.g. ``000000..000009,000011``; empty where none is."""
    count: int = Field(ge=0)
    missing: dict[int, str]
    """Why it is not fresh, by shard."""
    digest: str
    """Of the records' manifests of the fresh shards."""
    records: dict[int, str] = Field(default_factory=dict)
    """By fresh shard: the digest of its records' manifest, shortened; another one says that there is something new."""
