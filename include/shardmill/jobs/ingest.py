"""Take a shard into the lake: by reference to its source, or as a verified copy."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shardmill.adapters import lake as commits
from shardmill.adapters.source import SourceReader
from shardmill.adapters.store import DamagedObjectError, Store, StoreSettings, write_hashed
from shardmill.core import layout
from shardmill.core.etags import EtagCheck
from shardmill.specs.manifest import Draft, Manifest, Part, SourceObject

Ingest = Literal["reference", "copy"]
PIECE_BYTES = 1024 * 1024 * 1024
"""A larger shard is copied in pieces, so that a retry goes on behind the last whole one."""


@dataclass(frozen=True)
class Outcome:
    """What became of a shard at this stage."""

    shard: int
    skipped: bool
    why: str
    size: int
    """Bytes."""
    revision: int


@dataclass(frozen=True)
class Copying:
    """How shards are copied."""

    settings: StoreSettings | None = None
    """How the source is reached."""
    piece_bytes: int = PIECE_BYTES


def ingest_shard(
    lake: Store, dataset: str, source: tuple[int, SourceObject], ingest: Ingest, copying: Copying | None = None
) -> Outcome:
    """Take one shard in, unless the lake holds it as made from this very version of the source.

    Args:
        source: the shard's number and the object that it lies in.
        ingest: ``reference`` freezes the object's URI, size and version; ``copy`` copies its bytes too.

    Raises:
        ChangedObjectError: the source is no longer the object that was planned.
        DamagedObjectError: two reads of the source differ.
    """
    return commits.until_won(lambda: _ingest(lake, dataset, source, ingest, copying or Copying()))


def _ingest(lake: Store, dataset: str, numbered: tuple[int, SourceObject], ingest: Ingest, copying: Copying) -> Outcome:
    shard, source = numbered
    before = commits.latest_revision(lake, "raw", dataset, "", shard)
    if before is not None and before.manifest.source == source and (before.manifest.parts or ingest == "reference"):
        return Outcome(shard, True, "present, of the same source", source.size, before.manifest.revision)
    # Behind the look at what is there: else a plan of an older source could become the newer revision.
    SourceReader(source, copying.settings).check_unchanged()
    revision = before.manifest.revision + 1 if before else 0
    recipe = {"piece_bytes": copying.piece_bytes} if ingest == "copy" else {}
    draft = Draft(stage="raw", dataset=dataset, shard=shard, revision=revision, recipe=recipe, source=source)
    parts = _copy(lake, draft, copying) if ingest == "copy" else ()
    commits.commit(lake, Manifest(**draft.model_dump(), samples_in=1, parts=parts))
    return Outcome(shard, False, _why(before, source), source.size, revision)


def _why(before: commits.Revision | None, source: SourceObject) -> str:
    if before is None:
        return "new"
    return "the source changed" if before.manifest.source != source else "it was only referenced"


def _copy(lake: Store, draft: Draft, copying: Copying) -> tuple[Part, ...]:
    size = draft.source.size
    pieces = [(start, min(start + copying.piece_bytes, size)) for start in range(0, max(size, 1), copying.piece_bytes)]
    writer = commits.ShardWriter(
        lake,
        draft,
        stem=f"{draft.dataset}-{layout.shard_name(draft.shard)}",
        suffix=".tar" if len(pieces) <= 1 else ".tar-piece",
    )
    reader = SourceReader(draft.source, copying.settings)
    check = EtagCheck(draft.source.uri, draft.source.version, size)
    _take_in_again(lake, writer, check)
    others = (check.update,) if check.says_something else ()
    with lake.scratch("ingest-") as folder:
        for number in range(writer.next_sample(), len(pieces)):
            path = folder / f"{number:06d}"
            with path.open("wb") as file:
                sha256 = write_hashed(reader.stream(*pieces[number]), file, *others)
            if number == len(pieces) - 1 and check.verdict() == "different":
                _read_again(reader, writer, pieces, sha256)
            samples = int(number == 0)  # the shard is one sample, whatever it is cut into
            writer.publish(commits.NewPart(path, samples=samples, next_sample=number + 1, sha256=sha256))
            path.unlink()
    return tuple(writer.parts())


def _take_in_again(lake: Store, writer: commits.ShardWriter, check: EtagCheck) -> None:
    """Show the pieces that an earlier try left to the check, which is of the whole object."""
    if writer.next_sample() and check.says_something:
        for part in writer.parts():
            for chunk in lake.stream(part.name):
                check.update(chunk)


def _read_again(
    reader: SourceReader, writer: commits.ShardWriter, pieces: Sequence[tuple[int, int]], last: str
) -> None:
    """Compare the copy, but for its last piece unpublished, with a second read: an ETag may only look like an MD5.

    A published piece that differs loses its receipt, so that another try copies it anew. Whoever went on behind it
    finds the same and commits nothing.
    """
    found = [part.sha256 for part in writer.parts()] + [last]
    differing = []
    for number, (start, end) in enumerate(pieces):
        digest = hashlib.sha256()
        for chunk in reader.stream(start, end):
            digest.update(chunk)
        if digest.hexdigest() != found[number]:
            differing.append(number)
    if differing:
        writer.forget(min(differing))
        raise DamagedObjectError(f"{reader.source.uri}: two reads differ from piece {differing[0]} on: try again")
