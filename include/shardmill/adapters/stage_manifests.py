"""List the manifests of a stage once, and read many of them with few in memory."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from shardmill.adapters.store import DamagedObjectError, ObjectInfo, Store, read_sealed_bytes
from shardmill.core import layout
from shardmill.core.stage_output import StageOutput
from shardmill.specs.manifest import Manifest

READERS = 8
"""Manifests that are read at once."""

Result = TypeVar("Result")

Revisions = Mapping[int, ObjectInfo]
"""The manifests of a shard, by revision."""


@dataclass(frozen=True)
class ReadManifest:
    """A manifest and what names it."""

    manifest: Manifest
    etag: str
    """As in the listing."""
    sha256: str
    """Of its bytes."""


def list_manifests(store: Store, output: StageOutput) -> dict[int, Revisions]:
    """List the manifests of a stage by shard, both ascending."""
    found: dict[int, dict[int, ObjectInfo]] = {}
    for item in store.list(layout.manifests_folder(output.folder)):
        shard, revision = layout.shard_of_manifest(item.key), layout.revision_of(item.key)
        if shard is not None and revision is not None:
            found.setdefault(shard, {})[revision] = item
    return {shard: dict(sorted(found[shard].items())) for shard in sorted(found)}


def read_manifest(store: Store, output: StageOutput, item: ObjectInfo) -> ReadManifest:
    """Read a listed manifest.

    Raises:
        DamagedObjectError: it is damaged, or lies under the name of another.
    """
    manifest, content = read_sealed_bytes(store, item.key, Manifest)
    shard, revision = layout.shard_of_manifest(item.key), layout.revision_of(item.key)
    if shard is None or revision is None or not output.holds(manifest, shard, revision):
        raise DamagedObjectError(
            f"{store.uri_of(item.key)}: expected the manifest of that shard and revision, found that of "
            f"{manifest.stage} {manifest.dataset} {manifest.recipe_hash} shard {manifest.shard:06d} "
            f"revision {manifest.revision}"
        )
    return ReadManifest(manifest, item.version, hashlib.sha256(content).hexdigest())


def read_in_order(
    items: Iterable[ObjectInfo], read: Callable[[ObjectInfo], Result], readers: int = READERS
) -> Iterator[Result]:
    """Yield what ``read`` makes of each item, in order; at most ``2 * readers`` results wait."""
    left = iter(items)
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(readers) as pool:
        try:
            waiting.extend(pool.submit(read, item) for item in islice(left, 2 * readers))
            while waiting:
                first = waiting.popleft()
                waiting.extend(pool.submit(read, item) for item in islice(left, 1))
                yield first.result()
        finally:
            for future in waiting:
                future.cancel()
