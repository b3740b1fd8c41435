"""List the shards at a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shardmill.adapters.store import Store
from shardmill.core import layout, planning
from shardmill.specs.manifest import SourceObject


@dataclass(frozen=True, slots=True)
class Listed:
    """A shard as it stands in the listing of its source."""

    source: SourceObject
    modified: float
    """Seconds since 1970; 0 where the store does not say."""


def sources_of(listed: Mapping[int, Listed]) -> dict[int, SourceObject]:
    """Leave out when they were written."""
    return {number: found.source for number, found in listed.items()}


def list_source(source: Store) -> dict[int, SourceObject]:
    """List the shards in a folder by number. Raises BadRequestError as ``list_shards`` does."""
    return sources_of(list_shards(source))


def list_shards(source: Store) -> dict[int, Listed]:
    """List the shards in a folder by number, and when each was written.

    Raises:
        BadRequestError: where two files carry one number.
    """
    found: dict[int, Listed] = {}
    for item in source.files():
        number = layout.shard_number(item.key)
        if number is None:
            continue
        _check_inside(source, item.key)
        if number in found:
            raise planning.BadRequestError(
                f"source: two files of shard {layout.shard_name(number)}: "
                f"{found[number].source.uri} and {source.uri_of(item.key)}"
            )
        shard = SourceObject(uri=source.uri_of(item.key), size=item.size, version=item.version)
        found[number] = Listed(shard, item.modified)
    return found


def _check_inside(source: Store, key: str) -> None:
    """Refuse a file that is a link out of its folder: what may be read is said of folders."""
    folder = source.folder
    if folder is not None and not (folder / key).resolve().is_relative_to(folder.resolve()):
        raise planning.BadRequestError(
            f"source: {source.uri_of(key)} is a link that leads out of its folder: remove it"
        )
