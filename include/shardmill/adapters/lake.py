"""Build and find revisions of shards: parts under content-addressed names, a receipt beside each, the manifest last."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from shardmill.adapters.crash_points import pass_point
from shardmill.adapters.store import DamagedObjectError, MissingObjectError, Store, read_sealed, read_sealed_bytes
from shardmill.core import layout
from shardmill.specs.manifest import Draft, Manifest, Part, Receipt, Reject, Stage, Subset, Video
from shardmill.specs.value import Sealed

MOST_RACES = 10

Result = TypeVar("Result")


class LostRaceError(RuntimeError):
    """Another writer was first, with other content: plan again."""


@dataclass(frozen=True)
class Revision:
    """A committed revision and the SHA-256 of its manifest's bytes."""

    manifest: Manifest
    sha256: str

    @property
    def key(self) -> str:
        """The manifest's key."""
        found = self.manifest
        folder = layout.stage_folder(found.stage, found.dataset, found.recipe_hash)
        return layout.manifest_key(folder, found.shard, found.revision)


def read_revision(store: Store, key: str) -> Revision:
    """Read the manifest with this key."""
    manifest, content = read_sealed_bytes(store, key, Manifest)
    return Revision(manifest, hashlib.sha256(content).hexdigest())


def latest_revision(store: Store, stage: Stage, dataset: str, recipe_hash: str, shard: int) -> Revision | None:
    """Read the highest revision of a shard; None where nothing was committed."""
    folder = layout.stage_folder(stage, dataset, recipe_hash)
    listed = store.list(layout.manifests_folder(folder, shard))
    revisions = [number for item in listed if (number := layout.revision_of(item.key)) is not None]
    return read_revision(store, layout.manifest_key(folder, shard, max(revisions))) if revisions else None


def until_won(attempt: Callable[[], Result]) -> Result:
    """Do it again, from what is there then, whenever another writer was first."""
    for _ in range(MOST_RACES - 1):
        try:
            return attempt()
        except LostRaceError:
            continue
    return attempt()


def file_sha256(path: Path) -> str:
    """Give the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class NewPart:
    """A finished file and what it holds."""

    path: Path
    samples: int
    """Clips or records in it; for a raw shard 1."""
    next_sample: int
    """Number of the first sample of the source that is not dealt with."""
    videos: Sequence[Video] = ()
    rejects: Sequence[Reject] = ()
    subset: Subset = ""
    sha256: str = ""
    """Where it is known already."""
    source_offset: int = 0
    source_sha256: str = ""
    """Of the source before the next sample, where it is read as a stream."""


class ShardWriter:
    """Builds one revision of a shard. Its parts are chains, one for each subset, that a retry goes on with."""

    def __init__(self, store: Store, draft: Draft, stem: str, suffix: str) -> None:
        """Start or go on with a revision.

        Args:
            stem: names of parts before their number, e.g. ``sample-clips-000003``.
            suffix: of the parts' names, e.g. ``.tar``.
        """
        self.store = store
        self.draft = draft
        self._stem, self._suffix = stem, suffix
        self._stage = layout.stage_folder(draft.stage, draft.dataset, draft.recipe_hash)
        self._folder = layout.part_folder(self._stage, draft.shard, draft.revision)
        self._receipts: dict[Subset, list[Receipt]] = {}

    def resume(self, subset: Subset = "") -> Sequence[Receipt]:
        """Read how far a chain has come; what is in its receipts is not done again."""
        if subset not in self._receipts:
            chain = self._receipts[subset] = []
            while (receipt := self._find(len(chain), subset)) is not None:
                if receipt.behind != _last(chain):  # left of another chain, whose beginning is gone
                    self._delete_unless_committed(
                        [layout.receipt_key(self._folder, len(chain), self.draft.inputs, subset)]
                    )
                    break
                chain.append(receipt)
                pass_point("receipt_found")
        return tuple(self._receipts[subset])

    def next_sample(self, subset: Subset = "") -> int:
        """Give the number of the first sample that the chain has not dealt with."""
        chain = self.resume(subset)
        return chain[-1].next_sample if chain else 0

    def _find(self, number: int, subset: Subset) -> Receipt | None:
        key = layout.receipt_key(self._folder, number, self.draft.inputs, subset)
        try:
            receipt = read_sealed(self.store, key, Receipt)
            part = self.store.head(receipt.part.name)
        except MissingObjectError:
            return None
        except DamagedObjectError:
            part = None
        if part is not None and part.size == receipt.part.size:
            return receipt
        # A power failure or somebody's hand: nothing lists the part, so it is made anew.
        self._delete_unless_committed([key])
        return None

    def _keys_from(self, number: int, subset: Subset) -> list[str]:
        """List the receipts from a number on, the last first."""
        keys: list[str] = []
        while self.store.head(key := layout.receipt_key(self._folder, number + len(keys), self.draft.inputs, subset)):
            keys.append(key)
        return keys[::-1]

    def _delete_unless_committed(self, keys: Sequence[str]) -> None:
        manifest = layout.manifest_key(self._stage, self.draft.shard, self.draft.revision)
        if self.store.head(manifest) is not None:
            raise LostRaceError(f"{self.store.uri_of(manifest)} was committed meanwhile: plan again")
        self.store.delete(keys)

    def publish(self, new: NewPart) -> Part:
        """Put a part and its receipt behind the others of its chain.

        Raises:
            LostRaceError: another writer went on with this chain, with another part.
        """
        chain = self._receipts.setdefault(new.subset, [])
        sha256 = new.sha256 or file_sha256(new.path)
        part = Part(
            name=f"{self._folder}/{self._stem}-{len(chain):06d}-{sha256[:12]}{self._suffix}",
            size=new.path.stat().st_size,
            sha256=sha256,
            samples=new.samples,
            subset=new.subset,
        )
        receipt = Receipt(
            inputs=self.draft.inputs,
            part=part,
            next_sample=new.next_sample,
            videos=tuple(new.videos),
            rejects=tuple(new.rejects),
            behind=_last(chain),
            source_offset=new.source_offset,
            source_sha256=new.source_sha256,
        )
        pass_point("part_built")
        put_part(self.store, part, new.path)
        pass_point("part_put")
        key = layout.receipt_key(self._folder, len(chain), self.draft.inputs, new.subset)
        put_once(self.store, key, receipt)
        pass_point("receipt_put")
        chain.append(receipt)
        return part

    def forget(self, number: int, subset: Subset = "") -> None:
        """Remove a chain's receipts from a number on: the parts turned out to be no use. Nothing must list them."""
        gone = reversed(range(number, len(self._receipts.get(subset, ()))))  # the last first: no hole is left
        self.store.delete([layout.receipt_key(self._folder, each, self.draft.inputs, subset) for each in gone])
        self._receipts[subset] = self._receipts.get(subset, [])[:number]

    def parts(self) -> Iterator[Part]:
        """Give the parts of all chains, chain by chain."""
        for subset in sorted(self._receipts):
            yield from (receipt.part for receipt in self._receipts[subset])


def _last(chain: Sequence[Receipt]) -> str:
    return chain[-1].part.sha256 if chain else ""


def put_part(store: Store, part: Part, path: Path) -> None:
    """Put a file under its content-addressed name, create-only.

    Raises:
        DamagedObjectError: what lies under that name has other bytes.
    """
    if store.put_new(part.name, path):
        return
    digest = hashlib.sha256()
    try:
        for chunk in store.stream(part.name):
            digest.update(chunk)
    except MissingObjectError as error:  # of a revision that was committed meanwhile, and collected
        raise LostRaceError(f"{store.uri_of(part.name)} was there and is gone: plan again") from error
    if digest.hexdigest() != part.sha256:
        raise DamagedObjectError(
            f"{store.uri_of(part.name)}: expected the SHA-256 {part.sha256}, found {digest.hexdigest()}: "
            "remove it, no manifest can be right with it"
        )


def put_once(store: Store, key: str, value: Sealed) -> None:
    """Put a sealed value, create-only. If its key is taken, equal bytes are success. Raises LostRaceError."""
    if store.put_new(key, value.to_json()):
        return
    try:
        found = read_sealed(store, key, type(value))
    except MissingObjectError as error:  # a receipt of a revision that was committed meanwhile, and collected
        raise LostRaceError(f"{store.uri_of(key)} was there and is gone: plan again") from error
    if found != value:
        raise LostRaceError(f"{store.uri_of(key)} was written by another writer: plan again")


def commit(store: Store, manifest: Manifest) -> Revision:
    """Commit a revision, create-only.

    If the key is taken, the manifest there is read back: equal bytes are success, others raise LostRaceError.
    """
    revision = Revision(manifest, hashlib.sha256(manifest.to_json()).hexdigest())
    pass_point("manifest_built")
    put_once(store, revision.key, manifest)
    pass_point("manifest_put")
    return revision
