"""Collect the objects of a stage that no manifest lists, and the receipts of committed revisions."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from shardmill.adapters.store import DamagedObjectError, MissingObjectError, Store, read_sealed
from shardmill.core import layout
from shardmill.core.garbage import RECEIPT, Committed, Litter, place_of, shard_litter
from shardmill.jobs.collect_garbage.tally import Tally
from shardmill.specs.manifest import Manifest

WORKERS = 8

Objects = Sequence[tuple[str, int]]


@dataclass(frozen=True)
class _Shard:
    """What of a shard goes, or why it stays."""

    shard: int
    litter: Sequence[Litter] = ()
    stays: str = ""


def collect_unlisted(lake: Store, folder: str, tally: Tally) -> None:
    """Collect from all shards of a stage's folder.

    Manifests are listed before objects: a revision that is committed in between only makes fewer objects go.
    """
    manifests: dict[int, list[str]] = {}
    for item in lake.list(layout.manifests_folder(folder)):
        shard = layout.shard_of_manifest(item.key)
        if shard is not None:
            manifests.setdefault(shard, []).append(item.key)
    objects: dict[int, list[tuple[str, int]]] = {}
    for item in lake.list(folder):
        place = place_of(folder, item.key)
        if place is not None and place[0] in manifests:
            objects.setdefault(place[0], []).append((item.key, item.size))

    def collect(shard: int) -> _Shard:
        return _collect(lake, (folder, shard), manifests[shard], objects[shard], delete=tally.delete)

    with ThreadPoolExecutor(WORKERS) as pool:
        for done in pool.map(collect, objects):
            _tell(tally, folder, done)


def _collect(
    lake: Store, place: tuple[str, int], manifests: Sequence[str], objects: Objects, *, delete: bool
) -> _Shard:
    folder, shard = place
    try:
        committed = _committed(lake, manifests)
        litter = shard_litter(folder, objects, committed)
        if delete and litter:
            listed = lake.list(layout.manifests_folder(folder, shard))
            now = [item.key for item in listed if layout.shard_of_manifest(item.key) is not None]
            if now != sorted(manifests):
                committed = _committed(lake, now)
                litter = [item for item in shard_litter(folder, objects, committed) if item in litter]
            # One request after the other: a receipt never outlives its part.
            for group in ([item.key for item in litter if (item.why == RECEIPT) == first] for first in (True, False)):
                lake.delete(group)
    except (DamagedObjectError, MissingObjectError) as error:
        return _Shard(shard, stays=f"a manifest cannot be read: {error}: run verify")
    if committed.missing:
        gap = ", ".join(f"r{revision:03d}" for revision in committed.missing)
        return _Shard(shard, stays=f"what {gap} listed is not known, its manifest is gone: run verify")
    return _Shard(shard, litter)


def _committed(lake: Store, manifests: Sequence[str]) -> Committed:
    listed: set[str] = set()
    for key in manifests:
        manifest = read_sealed(lake, key, Manifest)
        folder = layout.stage_folder(manifest.stage, manifest.dataset, manifest.recipe_hash)
        if layout.manifest_key(folder, manifest.shard, manifest.revision) != key:
            raise DamagedObjectError(f"{lake.uri_of(key)} is the manifest of another shard or revision")
        listed.update(part.name for part in manifest.parts)
    return Committed(frozenset(layout.revision_of(key) or 0 for key in manifests), frozenset(listed))


def _tell(tally: Tally, folder: str, done: _Shard) -> None:
    name = f"{folder}/{layout.shard_name(done.shard)}"
    if done.stays:
        tally.stay(name, done.stays)
    receipts = [item for item in done.litter if item.why == RECEIPT]
    if receipts:
        tally.go(RECEIPT, len(receipts), sum(item.size for item in receipts), f"receipts of {name}")
    for item in done.litter:
        if item.why != RECEIPT:
            tally.go(item.why, 1, item.size, item.key)
