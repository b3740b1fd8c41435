"""Objects in a folder at ``s3://``, ``gs://`` or ``file://``, reached through obstore."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, GenericError

from shardmill.adapters.scratch import scratch_folder
from shardmill.adapters.store import disk
from shardmill.adapters.store.errors import ChangedObjectError, MissingObjectError, StoreError, told
from shardmill.adapters.store.reading import CHUNK_BYTES, PAUSE_SECONDS, Span, read_span
from shardmill.adapters.store.settings import StoreSettings, disk_folder, open_store

SENDS = 3
"""Times that a create-only put is sent when its connection breaks."""
SINGLE_PUT_BYTES = 8 * 1024 * 1024
"""Larger files are uploaded in several requests."""
SHOWN = {".html": "text/html; charset=utf-8", ".json": "application/json"}
"""What browsers show, by the end of its key."""


@dataclass(frozen=True)
class ObjectInfo:
    """An object as it stands in a listing."""

    key: str
    size: int
    version: str
    """ETag; on disk one made of size, time and inode."""
    modified: float = 0.0
    """Seconds since 1970."""
    generation: str = ""
    """What GCS compares and swaps by; empty elsewhere."""


class Store:
    """Objects below one folder. Keys are relative to it, with '/' between their parts."""

    def __init__(self, uri: str, settings: StoreSettings | None = None, *, create: bool = False) -> None:
        """Open the folder at ``uri``; ``create`` makes it where it is a missing folder on disk."""
        self.uri = uri.rstrip("/")
        self.settings = settings or StoreSettings.from_environment()
        self.folder = disk_folder(self.uri)
        """The folder, where it is one on disk."""
        self._store = open_store(self.uri, self.settings, create=create)

    def uri_of(self, key: str) -> str:
        """Give the full URI of a key."""
        return f"{self.uri}/{key}"

    def get(self, key: str, version: str = "") -> bytes:
        """Read a whole object that fits into memory.

        Raises:
            MissingObjectError, ChangedObjectError: it is not there, or not of the ``version`` asked for.
        """
        with told(self.uri_of(key)):
            return bytes(obstore.get(self._store, key, options={"if_match": version} if version else None).bytes())

    def get_range(self, key: str, start: int, length: int, version: str = "") -> bytes:
        """Read ``length`` bytes from ``start`` on."""
        return b"".join(read_span(self._store, Span(key, start, start + length, version), self.uri_of(key)))

    def stream(self, key: str, version: str = "", *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Read an object in chunks; a read that breaks off goes on where it broke, on the same version.

        Args:
            version: only this one (else ChangedObjectError).
            end: first byte that is not wanted; None for all.
        """
        if end is None:
            info = self.head(key)
            if info is None:
                raise MissingObjectError(f"{self.uri_of(key)} is not there")
            end = info.size
        yield from read_span(self._store, Span(key, start, end, version), self.uri_of(key))

    def head(self, key: str) -> ObjectInfo | None:
        """Look at an object; None where there is none."""
        try:
            with told(self.uri_of(key)):
                return _info(obstore.head(self._store, key))
        except MissingObjectError:
            return None

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """List the objects below the folder ``prefix``, ascending by key."""
        try:
            with told(self.uri):
                found = [_info(meta) for batch in obstore.list(self._store, prefix or None) for meta in batch]
        except MissingObjectError as error:
            raise MissingObjectError(f"{self.uri} is not there: check the bucket's name") from error
        return iter(sorted(found, key=lambda item: item.key))

    def files(self, prefix: str = "") -> Sequence[ObjectInfo]:
        """List the objects directly in the folder ``prefix``, not those in folders below it, ascending by key."""
        with told(self.uri_of(prefix)):
            found = obstore.list_with_delimiter(self._store, prefix or None)["objects"]
        return sorted((_info(meta) for meta in found), key=lambda item: item.key)

    def folders(self, prefix: str = "") -> Sequence[str]:
        """List the names of the folders directly below the folder ``prefix``, ascending."""
        with told(self.uri_of(prefix)):
            found = obstore.list_with_delimiter(self._store, prefix or None)["common_prefixes"]
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found)

    def put_new(self, key: str, content: bytes | Path) -> bool:
        """Write an object unless its key is taken. Returns whether this call wrote it.

        After an answer that got lost on the way an object of one's own is found: who is refused reads back and
        compares. A large file goes up in pieces, which no store refuses at their end everywhere: the name of such
        must be made of its content, so that two writers write the same.
        """
        if isinstance(content, Path):
            if self.folder is not None:
                linked = disk.link_new(content, disk.file_of(self.folder, key))
                if linked is not None:
                    return linked
            if content.stat().st_size > SINGLE_PUT_BYTES:
                return self._upload_new(key, content)
        return self._put_small(key, content)

    def _put_small(self, key: str, content: bytes | Path) -> bool:
        for left in reversed(range(SENDS)):
            try:
                with told(self.uri_of(key)):
                    obstore.put(self._store, key, content, mode="create", use_multipart=False)
                return True
            except StoreError as error:
                if isinstance(error.__cause__, AlreadyExistsError):
                    return False
                # A conditional put whose connection broke is sent again by us alone: obstore cannot know what a
                # refusal of the second one means, our callers read back.
                if not left or not isinstance(error.__cause__, GenericError):
                    raise
                time.sleep(PAUSE_SECONDS)
        raise AssertionError("unreachable")

    def _upload_new(self, key: str, path: Path) -> bool:
        if self.head(key) is not None:
            return False
        # Left by an exception, obstore's writer aborts the upload, and nothing appears.
        with (
            told(self.uri_of(key)),
            path.open("rb") as source,
            obstore.open_writer(self._store, key, buffer_size=CHUNK_BYTES, max_concurrency=4) as sink,
        ):
            while chunk := source.read(CHUNK_BYTES):
                sink.write(chunk)
        return True

    def put(self, key: str, content: bytes) -> None:
        """Write an object, whatever was there. Only for what can be made again.

        A page is marked as one, else a browser that follows a link to it stores it and shows nothing.
        """
        shown = {"Content-Type": SHOWN[suffix]} if (suffix := Path(key).suffix) in SHOWN else None
        with told(self.uri_of(key)):
            # Files on disk have no such marks, and obstore refuses to write them.
            attributes = shown if self.folder is None else None
            obstore.put(self._store, key, content, attributes=attributes, use_multipart=False)

    def swap(self, key: str, content: bytes, expected: ObjectInfo | None) -> bool:
        """Write an object if it is still the one ``expected`` (None: if there is none). Returns whether it was."""
        if expected is None:
            return self.put_new(key, content)
        if self.folder is not None:
            return disk.swap(self.folder, key, content, lambda: self._is(key, expected))
        mode = {"e_tag": expected.version} | ({"version": expected.generation} if expected.generation else {})
        try:
            with told(self.uri_of(key)):
                obstore.put(self._store, key, content, mode=mode, use_multipart=False)  # type: ignore[arg-type]
        except (ChangedObjectError, MissingObjectError):
            return False
        return True

    def _is(self, key: str, expected: ObjectInfo) -> bool:
        found = self.head(key)
        return found is not None and found.version == expected.version

    def copy_new(self, key: str, target: Store, target_key: str) -> bool:
        """Copy an object, within this store or into another, unless the new key is taken. Returns whether it was."""
        if target.uri == self.uri:
            try:
                with told(self.uri_of(key)):
                    obstore.copy(self._store, key, target_key, overwrite=False)
            except StoreError as error:
                if isinstance(error.__cause__, AlreadyExistsError):
                    return False
                raise
            return True
        with target.scratch("copy-") as folder:
            path = folder / "object"
            with path.open("wb") as file:
                for chunk in self.stream(key):
                    file.write(chunk)
            return target.put_new(target_key, path)

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are not there are no error."""
        for start in range(0, len(keys), 1000):
            try:
                with told(self.uri):
                    obstore.delete(self._store, list(keys[start : start + 1000]))
            except MissingObjectError:
                self._delete_one_by_one(keys[start : start + 1000])

    def _delete_one_by_one(self, keys: Sequence[str]) -> None:
        for key in keys:
            try:
                with told(self.uri_of(key)):
                    obstore.delete(self._store, key)
            except MissingObjectError:
                continue

    def sign(self, key: str, hours: float) -> str:
        """Give a URL by which anybody may read an object for some hours; of a file on disk its path."""
        if self.folder is not None:
            return str(disk.file_of(self.folder, key))
        with told(self.uri_of(key)):
            return obstore.sign(self._store, "GET", key, timedelta(hours=hours))  # type: ignore[call-overload]

    def scratch(self, prefix: str, place: Path | None = None) -> AbstractContextManager[Path]:
        """Lend a folder for unfinished files, from which ``put_new`` is cheapest; ``place`` names another parent."""
        if place is None and self.folder is not None:
            place = self.folder / disk.SCRATCH
        return scratch_folder(prefix, place)


def _info(meta: obstore.ObjectMeta) -> ObjectInfo:
    return ObjectInfo(
        meta["path"], meta["size"], meta["e_tag"] or "", meta["last_modified"].timestamp(), meta["version"] or ""
    )


def split_uri(uri: str) -> tuple[str, str]:
    """Cut the URI of an object into its folder and its name."""
    folder, _, name = uri.rstrip("/").rpartition("/")
    return folder, name


def read_uri(uri: str, settings: StoreSettings | None = None) -> bytes:
    """Read the whole object at a URI. Raises MissingObjectError."""
    folder, name = split_uri(uri)
    return Store(folder, settings).get(name)
