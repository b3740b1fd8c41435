"""Commit and find revisions of shards: parts under content-addressed names first, the manifest last."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from shardmill.adapters.store import Store
from shardmill.core import layout
from shardmill.specs.manifest import Manifest, Part, Stage, Subset


class LostRaceError(RuntimeError):
    """Another writer committed this revision first, with other content; plan again."""


@dataclass(frozen=True)
class Revision:
    """A committed revision and the SHA-256 of its manifest's bytes."""

    manifest: Manifest
    sha256: str


def latest_revision(store: Store, stage: Stage, dataset: str, recipe_hash: str, shard: int) -> Revision | None:
    """Read the highest revision of a shard; None where nothing was committed."""
    folder = layout.stage_folder(stage, dataset, recipe_hash)
    listed = store.list(layout.manifests_folder(folder, shard))
    revisions = [number for item in listed if (number := layout.revision_of(item.key)) is not None]
    if not revisions:
        return None
    content = store.get(layout.manifest_key(folder, shard, max(revisions)))
    return Revision(Manifest.model_validate_json(content), hashlib.sha256(content).hexdigest())


def file_sha256(path: Path) -> str:
    """Give the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def put_part(
    store: Store, path: Path, *, folder: str, stem: str, suffix: str, samples: int, subset: Subset = ""
) -> Part:
    """Publish a file as a part under ``<folder>/<stem>-<sha12><suffix>``, create-only.

    Args:
        folder: the revision's part folder, e.g. from ``layout.part_folder``.
        stem: name before the hash, e.g. ``sample-clips-000003-000000``.
        suffix: e.g. ``.tar``.
        samples: clips or records in the file.
    """
    sha256 = file_sha256(path)
    name = f"{folder}/{stem}-{sha256[:12]}{suffix}"
    store.put_new(name, path)
    return Part(name=name, size=path.stat().st_size, sha256=sha256, samples=samples, subset=subset)


def commit(store: Store, manifest: Manifest) -> Revision:
    """Commit a revision, create-only.

    If the key is taken, the manifest there is read back: equal bytes are success, others raise LostRaceError.
    """
    folder = layout.stage_folder(manifest.stage, manifest.dataset, manifest.recipe_hash)
    key = layout.manifest_key(folder, manifest.shard, manifest.revision)
    content = manifest.to_json()
    if not store.put_new(key, content) and store.get(key) != content:
        raise LostRaceError(f"{store.uri_of(key)} was committed by another writer: plan again")
    return Revision(manifest, hashlib.sha256(content).hexdigest())
