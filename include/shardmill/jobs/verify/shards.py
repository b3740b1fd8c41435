"""Walk shards back from stage to stage, to the object at the source."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from shardmill.adapters.store import MissingObjectError, Store, StoreError, split_uri
from shardmill.core import layout, lineage
from shardmill.core.garbage import Committed, place_of
from shardmill.jobs.verify.ledger import Chain, Ledger, Progress, Read, Verifying
from shardmill.specs.manifest import Manifest, Part, SourceObject
from shardmill.specs.records import ManifestReference

_SHARD = re.compile(r"(?:_manifests/)?(\d{6})/.+")
_MANIFEST_KEY = re.compile(r"((?:raw|clips|features)/.+)/_manifests/\d{6}/r\d{3,}\.json")

Item = TypeVar("Item")
Result = TypeVar("Result")
Revisions = Mapping[str, Read[Manifest]]
"""The revisions of a shard that can be read, by key, the highest first."""


@dataclass(frozen=True)
class Shelf:
    """The listing of a stage's folder: sizes by key, by shard."""

    shards: Mapping[int, Mapping[str, int]]
    strays: Sequence[str]
    """Keys that are of no shard."""

    def manifests(self, shard: int) -> list[str]:
        """Give the keys of a shard's manifests, the highest first."""
        keys = [key for key in self.shards.get(shard, ()) if layout.shard_of_manifest(key) == shard]
        return sorted(keys, key=lambda key: -(layout.revision_of(key) or 0))


class Walk:
    """Walks back; what it came by before is not read again."""

    def __init__(self, lake: Store, how: Verifying) -> None:
        self.lake, self.how = lake, how
        self.progress = Progress(how.say)
        self._shelves: dict[str, Shelf] = {}
        self._seen: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def shelf(self, folder: str) -> Shelf:
        """List a stage's folder, once."""
        with self._lock:
            if folder not in self._shelves:
                shards: dict[int, dict[str, int]] = {}
                strays = []
                for item in self.lake.list(folder):
                    name = item.key.removeprefix(folder + "/")
                    if match := _SHARD.fullmatch(name):
                        shards.setdefault(int(match[1]), {})[item.key] = item.size
                    elif not name.startswith("_") or name.startswith("_manifests/"):
                        strays.append(item.key)  # what else begins with '_' is derived, such as _index.parquet
                self._shelves[folder] = Shelf(shards, strays)
            return self._shelves[folder]

    def _is_new(self, kind: str, name: str) -> bool:
        with self._lock:
            new = (kind, name) not in self._seen
            self._seen.add((kind, name))
            return new

    def each(self, ledger: Ledger, items: Iterable[Item], step: Callable[[Ledger, Item], Result]) -> list[Result]:
        """Do some at once, each with a ledger of its own, and join them in order."""

        def do(item: Item) -> tuple[Ledger, Result]:
            own = Ledger(self.lake, self.progress)
            return own, step(own, item)

        results = []
        with ThreadPoolExecutor(self.how.workers) as pool:
            for own, result in pool.map(do, items):
                ledger.join(own)
                results.append(result)
        return results

    def datasets(self, ledger: Ledger, folders: Sequence[str]) -> None:
        """Walk back from every shard in some folders of stages."""
        found = []
        for folder in folders:
            parent = folder.removesuffix("/*")
            found += [f"{parent}/{name}" for name in self.lake.folders(parent)] if parent != folder else [folder]
        shards = [(folder, shard) for folder in found for shard in sorted(self.shelf(folder).shards)]
        if not shards:
            ledger.find("missing", folders[0], "no shard is there", ())
        self.each(ledger, shards, self._from_highest)
        for folder in found:
            for key in self.shelf(folder).strays:
                ledger.find("unlisted", key, "it belongs to no shard", (self.lake.uri_of(folder),))

    def _from_highest(self, ledger: Ledger, place: tuple[str, int]) -> None:
        folder, shard = place
        chain = (self.lake.uri_of(folder),)
        revisions = self.shard(ledger, folder, shard, chain)
        highest = next(iter(self.shelf(folder).manifests(shard)), "")
        if highest in revisions:
            self._behind(ledger, revisions[highest], chain)

    def referenced(self, ledger: Ledger, reference: ManifestReference, chain: Chain) -> Manifest | None:
        """Walk back from the manifest that a run refers to; None where it is not what it was."""
        found = self._linked(ledger, reference.key, reference.sha256, chain)
        if found is None:
            return None
        self._behind(ledger, found, chain)
        return found.value

    def _linked(self, ledger: Ledger, key: str, sha256: str, chain: Chain) -> Read[Manifest] | None:
        """Follow a reference to a manifest; None, and noted, where that is not there, is damaged or another."""
        match, shard = _MANIFEST_KEY.fullmatch(key), layout.shard_of_manifest(key)
        if match is None or shard is None:
            ledger.find_at(
                "mismatch", chain[-1], f"it refers to {key!r}, which is no manifest of this lake", chain[:-1]
            )
            return None
        found = self.shard(ledger, match[1], shard, chain).get(key) or ledger.read(key, Manifest, chain)
        if found is not None and found.sha256 != sha256:
            ledger.find("mismatch", key, f"expected the SHA-256 {sha256}, found {found.sha256}", chain)
            return None
        return found

    def _behind(self, ledger: Ledger, found: Read[Manifest], chain: Chain) -> None:
        """Go on from a manifest to what it was made of."""
        manifest, chain = found.value, (*chain, self.lake.uri_of(found.key))
        if manifest.stage == "features":
            source = manifest.source
            clips = self._linked(ledger, source.uri.removeprefix(self.lake.uri + "/"), source.version, chain)
            if clips is not None:
                ledger.claim(lineage.check_features(manifest, clips.value), found.key, chain[:-1])
                if clips.size != source.size:
                    ledger.find("mismatch", clips.key, f"expected {source.size} bytes, found {clips.size}", chain)
                self._behind(ledger, clips, chain)
        elif manifest.stage == "clips":
            folder = layout.stage_folder("raw", manifest.dataset, "")
            taken_in = self.shard(ledger, folder, manifest.shard, chain).values()
            raw = next((read for read in taken_in if read.value.source == manifest.source), None)
            if raw is None:
                key = layout.manifests_folder(folder, manifest.shard)
                ledger.find("missing", key, f"no revision is of {manifest.source.uri} {manifest.source.version}", chain)
            else:
                self._behind(ledger, raw, chain)
        else:
            self._at_source(ledger, manifest.source, chain)

    def _at_source(self, ledger: Ledger, source: SourceObject, chain: Chain) -> None:
        if not self._is_new("source", f"{source.uri} {source.version}"):
            return
        folder, name = split_uri(source.uri)
        try:
            found = Store(folder, self.how.source_settings).head(name)
        except MissingObjectError:
            found = None
        except StoreError as error:
            ledger.find_at("source_unseen", source.uri, str(error), chain)
            return
        self.progress.count(1, 0)
        if found is None:
            ledger.find_at("source_changed", source.uri, "the source is gone since", chain)
        elif (found.size, found.version) != (source.size, source.version):
            message = (
                f"the source changed since: it was {source.size} bytes, {source.version}; "
                f"it is {found.size} bytes, {found.version}"
            )
            ledger.find_at("source_changed", source.uri, message, chain)

    def shard(self, ledger: Ledger, folder: str, shard: int, chain: Chain) -> Revisions:
        """Check all revisions of a shard and what its folders hold."""
        keys = self.shelf(folder).manifests(shard)
        read = {key: found for key in keys if (found := ledger.read(key, Manifest, chain)) is not None}
        if not self._is_new("shard", f"{folder}/{shard}"):
            return read
        for key, found in read.items():
            ledger.claim(lineage.check_manifest(found.value, key), key, chain)
        committed = Committed(
            frozenset(layout.revision_of(key) or 0 for key in keys),
            frozenset(part.name for found in read.values() for part in found.value.parts),
        )
        for revision in committed.missing:
            ledger.find("gap", layout.manifest_key(folder, shard, revision), "a higher revision is there", chain)
        parts = {part: key for key, found in reversed(read.items()) for part in found.value.parts}
        for part, key in parts.items():
            self._part(ledger, part, self.shelf(folder).shards[shard].get(part.name), (*chain, self.lake.uri_of(key)))
        if len(read) == len(keys):
            self._unlisted(ledger, folder, shard, committed)
        return read

    def _part(self, ledger: Ledger, part: Part, size: int | None, chain: Chain) -> None:
        self.progress.count(1, 0)
        if size != part.size:
            found = self.lake.head(part.name)  # it may have come since the listing
            size = found.size if found else None
        if size is None:
            ledger.find("missing", part.name, f"expected a part of {part.size} bytes, found nothing", chain)
        elif size != part.size:
            ledger.find("damaged", part.name, f"expected {part.size} bytes, found {size}", chain)
        elif self.how.deep:
            ledger.hash_object(part.name, part.sha256, chain)

    def _unlisted(self, ledger: Ledger, folder: str, shard: int, committed: Committed) -> None:
        manifests = set(self.shelf(folder).manifests(shard))
        for key in self.shelf(folder).shards.get(shard, ()):
            if key in committed.listed or key in manifests or layout.is_receipt(key):
                continue
            place, chain = place_of(folder, key), (self.lake.uri_of(layout.manifests_folder(folder, shard)),)
            if place is not None and place[1] > committed.highest:
                ledger.find("uncommitted", key, f"revision {place[1]} has no manifest", chain)
            else:
                ledger.find("unlisted", key, "no manifest lists it", chain)
