"""The three kinds of store, as a test asks for one."""

from __future__ import annotations

from dataclasses import dataclass

from shardmill.adapters.store import StoreSettings

KINDS = ("file", "s3", "gs")


@dataclass(frozen=True)
class Place:
    """A folder in a store of some kind, and how it is reached."""

    uri: str
    settings: StoreSettings
