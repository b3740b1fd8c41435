"""Copy a shard from its source into the lake, verified; a shard that is there and equal is left alone."""

from __future__ import annotations

import hashlib
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from shardmill.adapters import lake as commits
from shardmill.adapters.store import ChangedObjectError, Store, StoreSettings, split_uri
from shardmill.core import layout
from shardmill.specs.manifest import Manifest, SourceObject

_MD5_ETAG = re.compile(r'"?([0-9a-f]{32})"?')


@dataclass(frozen=True)
class Outcome:
    """What became of a shard at this stage."""

    shard: int
    skipped: bool
    why: str
    size: int
    """Bytes."""
    revision: int


def ingest_shard(
    lake: Store, dataset: str, shard: int, source: SourceObject, settings: StoreSettings | None = None
) -> Outcome:
    """Copy one shard, unless the lake holds it as made from this very version of the source.

    Raises:
        ChangedObjectError: the source is no longer the object that was planned.
    """
    before = commits.latest_revision(lake, "raw", dataset, "", shard)
    if before is not None and before.manifest.source == source:
        return Outcome(shard, True, "present, of the same source", source.size, before.manifest.revision)
    revision = before.manifest.revision + 1 if before else 0
    with tempfile.TemporaryDirectory(prefix="shardmill-ingest-") as folder:
        copy = Path(folder) / "shard.tar"
        _download(source, copy, settings)
        part = commits.put_part(
            lake,
            copy,
            folder=layout.part_folder(layout.stage_folder("raw", dataset, ""), shard, revision),
            stem=f"{dataset}-{layout.shard_name(shard)}",
            suffix=".tar",
            samples=1,
        )
    stored = lake.head(part.name)
    if stored is None or stored.size != source.size:
        raise ChangedObjectError(
            f"{lake.uri_of(part.name)}: expected {source.size} bytes, found {stored.size if stored else 'nothing'}"
        )
    manifest = Manifest(
        stage="raw", dataset=dataset, shard=shard, revision=revision, source=source, samples_in=1, parts=(part,)
    )
    commits.commit(lake, manifest)
    return Outcome(shard, False, "the source changed" if before else "new", source.size, revision)


def _download(source: SourceObject, path: Path, settings: StoreSettings | None) -> None:
    first = _read(source, path, settings)
    if first.size != source.size:
        raise ChangedObjectError(f"{source.uri}: expected {source.size} bytes, read {first.size}: trigger a new run")
    etag = _MD5_ETAG.fullmatch(source.version)
    if etag and source.uri.startswith("s3://") and etag[1] != first.md5:
        # Of an object encrypted by KMS the ETag looks like an MD5 and is none; that two reads agree must do.
        second = _read(source, path, settings)
        if second != first:
            raise ChangedObjectError(f"{source.uri}: two reads differ, {first} and {second}: read it again")


@dataclass(frozen=True)
class _Read:
    size: int
    md5: str


def _read(source: SourceObject, path: Path, settings: StoreSettings | None) -> _Read:
    folder, name = split_uri(source.uri)
    md5 = hashlib.md5(usedforsecurity=False)
    size = 0
    with path.open("wb") as file:
        for chunk in Store(folder, settings).stream(name, source.version):
            file.write(chunk)
            md5.update(chunk)
            size += len(chunk)
    return _Read(size, md5.hexdigest())
