"""The catalogue of a stage: where each clip or record lies, one row each, derived from the manifests alone."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shardmill.adapters.stage_manifests import list_manifests, read_in_order, read_manifest
from shardmill.adapters.store import ChangedObjectError, ObjectInfo, Store
from shardmill.core.catalogue_rows import catalogue_rows
from shardmill.core.stage_output import StageOutput
from shardmill.specs.manifest import Manifest

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

_SHARDS = "shardmill.shards"
"""Fact that lists the shards of the rows in their order: shard, ETag of the manifest, rows."""


class WrongCatalogueError(ValueError):
    """What lies under the catalogue's name cannot be used; the message says why."""


@dataclass(frozen=True)
class Catalogue:
    """What was found and done."""

    shards: int
    rows: int
    manifests_read: int = 0
    rebuilt_because: str = ""
    """Why all manifests were read; empty where the catalogue that lay there was used."""
    written: bool = False
    """Whether the catalogue in the lake was replaced."""


def refresh_catalogue(store: Store, output: StageOutput, *, afresh: bool = False) -> Catalogue:
    """Bring the catalogue of clips or records to what the manifests say; only changed ones are read.

    It is replaced as a whole, unless another was faster.

    Args:
        afresh: read all manifests, whatever the catalogue holds.

    Raises:
        DamagedObjectError: a manifest that had to be read is damaged.
    """
    if output.stage == "raw":
        raise ValueError("expected clips or features: raw shards have no catalogue")
    listed = {shard: revisions[max(revisions)] for shard, revisions in list_manifests(store, output).items()}
    place = store.head(output.table_key("catalogue"))
    old, wrong = _open(store, output, place)
    if afresh:
        old, wrong = None, "it was asked for"
    if old is not None and old.etags == {shard: item.version for shard, item in listed.items()}:
        return Catalogue(len(listed), old.rows)
    if place is None and not listed:
        return Catalogue(0, 0)
    try:
        return _write(_Rewrite(store, output, place, listed, old), wrong)
    except (WrongCatalogueError, ChangedObjectError) as error:
        return _write(_Rewrite(store, output, place, listed, None), str(error))


@dataclass(frozen=True)
class _Old:
    """A catalogue as it lies there, and where each shard's rows are in it."""

    file: ParquetFile
    etags: Mapping[int, str]
    groups: Mapping[int, int]
    """Row group of each shard that has rows."""
    rows: int

    def table(self, shard: int) -> pa.Table | None:
        """Read a shard's rows; None where it has none. Raises WrongCatalogueError."""
        if shard not in self.groups:
            return None
        with _reading():
            return self.file.read_row_group(self.groups[shard])


@contextmanager
def _reading() -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise WrongCatalogueError(f"it cannot be read: {str(error).partition(chr(10))[0]}") from error


def _open(store: Store, output: StageOutput, place: ObjectInfo | None) -> tuple[_Old | None, str]:
    """Open the catalogue, or give why there is none of use. Only its last bytes are read."""
    if place is None:
        return None, "it was not there"
    try:
        return _inspect(output, _StoredFile(store, place)), ""
    except ChangedObjectError:
        return None, "it was replaced while it was read"
    except WrongCatalogueError as error:
        return None, str(error)


def _inspect(output: StageOutput, file: _StoredFile | Path) -> _Old:
    """Check what a catalogue says of itself. Raises WrongCatalogueError."""
    import pyarrow as pa
    from pyarrow import parquet

    with _reading():
        source = file if isinstance(file, Path) else pa.PythonFile(file, mode="r")
        opened = parquet.ParquetFile(source, page_checksum_verification=True)
        found = opened.metadata
        facts = {name.decode(): value.decode() for name, value in (found.metadata or {}).items()}
    if why := output.why_foreign("catalogue", facts):
        raise WrongCatalogueError(why)
    if opened.schema_arrow.remove_metadata() != _schema():
        raise WrongCatalogueError("its columns are not those of this version")
    with _reading():
        shards = [(int(shard), str(etag), int(rows)) for shard, etag, rows in json.loads(facts[_SHARDS])]
    with_rows = [shard for shard, _, rows in shards if rows]
    counts = [found.row_group(group).num_rows for group in range(found.num_row_groups)]
    if counts != [rows for _, _, rows in shards if rows]:
        raise WrongCatalogueError("its row groups are not those that were written")
    return _Old(
        opened,
        etags={shard: etag for shard, etag, _ in shards},
        groups={shard: group for group, shard in enumerate(with_rows)},
        rows=found.num_rows,
    )


class _StoredFile(io.RawIOBase):
    """One version of an object, read where Arrow asks."""

    def __init__(self, store: Store, place: ObjectInfo) -> None:
        self._store, self._place, self._position = store, place, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._place.size}[whence]
        self._position = origin + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._place.size - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        content = self._store.get_range(self._place.key, self._position, wanted, self._place.version) if wanted else b""
        self._position += len(content)
        return content


@dataclass(frozen=True)
class _Rewrite:
    """What a new catalogue is made of."""

    store: Store
    output: StageOutput
    place: ObjectInfo | None
    listed: Mapping[int, ObjectInfo]
    """The highest manifest of each shard."""
    old: _Old | None

    def is_copied(self, shard: int) -> bool:
        return self.old is not None and self.old.etags.get(shard) == self.listed[shard].version


def _write(asked: _Rewrite, wrong: str) -> Catalogue:
    """Write the new catalogue shard by shard and put it into the lake. Raises WrongCatalogueError."""
    from pyarrow import parquet

    with asked.store.scratch("catalogue-") as folder:
        path = folder / "catalogue.parquet"
        old = _fetch(asked, folder / "old.parquet")
        shards: list[tuple[int, str, int]] = []
        with parquet.ParquetWriter(path, _schema(), compression="zstd", write_page_checksum=True) as writer:
            for shard, table in _tables(asked, old):
                rows = table.num_rows if table is not None else 0
                if table is not None and rows:
                    writer.write_table(table, row_group_size=rows)
                shards.append((shard, asked.listed[shard].version, rows))
            writer.add_key_value_metadata({**asked.output.facts("catalogue"), _SHARDS: json.dumps(shards)})
        written = _put(asked, path)
    read = sum(not asked.is_copied(shard) for shard in asked.listed)
    return Catalogue(len(shards), sum(rows for _, _, rows in shards), read, wrong, written)


def _fetch(asked: _Rewrite, path: Path) -> _Old | None:
    """Bring the old catalogue here: one long read, where Arrow would ask for each shard."""
    if asked.old is None or asked.place is None:
        return None
    with path.open("wb") as file:
        for chunk in asked.store.stream(asked.place.key, asked.place.version):
            file.write(chunk)
    return _inspect(asked.output, path)


def _tables(asked: _Rewrite, old: _Old | None) -> Iterator[tuple[int, pa.Table | None]]:
    """Yield each shard's rows, in order: copied, or read from its manifest."""
    changed = [item for shard, item in asked.listed.items() if not asked.is_copied(shard)]
    tables = read_in_order(changed, lambda item: _read_rows(asked.store, asked.output, item))
    for shard in asked.listed:
        yield shard, old.table(shard) if old and asked.is_copied(shard) else next(tables)


def _put(asked: _Rewrite, path: Path) -> bool:
    """Replace the catalogue by a file, of which nothing need be in memory."""
    import mmap

    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        view: Any = content  # the store takes any buffer
        return asked.store.swap(asked.output.table_key("catalogue"), view, asked.place)


def _read_rows(store: Store, output: StageOutput, item: ObjectInfo) -> pa.Table:
    found = read_manifest(store, output, item)
    return _to_table(found.manifest, found.etag)


def _to_table(manifest: Manifest, etag: str) -> pa.Table:
    import pyarrow as pa

    rows = list(catalogue_rows(manifest, etag))
    schema = _schema()
    columns = [pa.array([getattr(row, name) for row in rows], schema.field(name).type) for name in schema.names]
    return pa.Table.from_arrays(columns, schema=schema)


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        {
            "shard": pa.int32(),
            "revision": pa.int32(),
            "manifest_etag": pa.string(),
            "video": pa.string(),
            "clip": pa.int32(),
            "start_seconds": pa.float64(),
            "end_seconds": pa.float64(),
            "labels": pa.list_(pa.string()),
            "subset": pa.string(),
            "part": pa.string(),
            "offset": pa.int64(),
            "size": pa.int64(),
        }
    )
