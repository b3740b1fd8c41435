"""Read an object where it lies at the source, only in the version that was planned with."""

from __future__ import annotations

from collections.abc import Iterator

from shardmill.adapters.store import ChangedObjectError, Store, StoreSettings, split_uri
from shardmill.specs.manifest import SourceObject


class SourceReader:
    """One version of an object at the source."""

    def __init__(self, source: SourceObject, settings: StoreSettings | None = None) -> None:
        """Open the object's folder. Raises MissingObjectError where that is one on disk and is not there."""
        folder, self._name = split_uri(source.uri)
        self.source = source
        self._store = Store(folder, settings)

    def stream(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Read bytes in chunks; a read that breaks off goes on where it broke.

        Raises:
            ChangedObjectError: the object is no longer of the version or size that was planned with.
        """
        self.check_unchanged()
        end = self.source.size if end is None else end
        yield from self._store.stream(self._name, self.source.version, start=start, end=end)

    def check_unchanged(self) -> None:
        """Raise ChangedObjectError where the object is no longer of the size and version that was planned with."""
        found = self._store.head(self._name)
        if found is None or (found.size, found.version) != (self.source.size, self.source.version):
            raise ChangedObjectError(
                f"{self.source.uri} changed since it was planned with: expected {self.source.size} bytes of version "
                f"{self.source.version}, found {f'{found.size} of {found.version}' if found else 'nothing'}: "
                "trigger a new run"
            )
