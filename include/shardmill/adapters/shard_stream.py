"""The bytes of a raw shard, from the lake or from where it lies at the source, and whether they were the right ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from shardmill.adapters.source import SourceReader
from shardmill.adapters.store import ChangedObjectError, DamagedObjectError, Store, StoreSettings
from shardmill.core.etags import EtagCheck
from shardmill.specs.manifest import Manifest, Part


class ShardStream:
    """One reading of a shard. What is made of its bytes counts only once they are settled."""

    def __init__(self, lake: Store, raw: Manifest, settings: StoreSettings | None = None) -> None:
        """Prepare to read.

        Args:
            raw: the shard's raw manifest; without parts the shard is read at its source.
            settings: how the source is reached.
        """
        self._lake, self._raw, self._settings = lake, raw, settings
        self._check = EtagCheck(raw.source.uri, raw.source.version, raw.source.size)

    def chunks(self) -> Iterator[bytes]:
        """Yield the shard's bytes; a read that breaks off goes on where it broke.

        Raises:
            ChangedObjectError: the source is no longer the object that was planned with.
            DamagedObjectError: a copy in the lake is not what its manifest says, or was not read as it lies there.
        """
        if self._raw.parts:
            for part in self._raw.parts:
                yield from self._copied(part)
            return
        for chunk in SourceReader(self._raw.source, self._settings).stream():
            self._check.update(chunk)
            yield chunk

    def _copied(self, part: Part) -> Iterator[bytes]:
        digest = hashlib.sha256()
        try:
            for chunk in self._lake.stream(part.name):
                digest.update(chunk)
                yield chunk
        except ChangedObjectError as error:  # another writer of the same bytes gave it another ETag
            raise DamagedObjectError(f"{self._lake.uri_of(part.name)} was written to while it was read") from error
        if digest.hexdigest() != part.sha256:
            raise DamagedObjectError(
                f"{self._lake.uri_of(part.name)}: expected the SHA-256 {part.sha256}, found {digest.hexdigest()}"
            )

    def settle(self, sha256: str, go_on: Callable[[], None] = lambda: None) -> None:
        """Make sure that the bytes were the object's; to be called behind the last of them.

        Args:
            sha256: of all the bytes that were read.
            go_on: called now and then; raises where nobody wants to know any more.

        Raises:
            DamagedObjectError: they do not fit the object's ETag, and a second reading gave others.
        """
        if self._raw.parts or self._check.verdict() != "different":
            return
        # The ETag may only look like a hash of the bytes (KMS): a second reading tells.
        digest = hashlib.sha256()
        for chunk in SourceReader(self._raw.source, self._settings).stream():
            digest.update(chunk)
            go_on()
        if digest.hexdigest() != sha256:
            raise DamagedObjectError(
                f"{self._raw.source.uri}: two reads differ, SHA-256 {sha256[:12]}… and {digest.hexdigest()[:12]}…: "
                "read it again"
            )
