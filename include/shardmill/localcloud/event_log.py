"""Put a step's Spark event log where EMR's Spark would have written it itself."""

from __future__ import annotations

import logging
from pathlib import Path

from shardmill.adapters.store import Store, StoreError, StoreSettings

_LOG = logging.getLogger(__name__)
_UNFINISHED = ".inprogress"
_LARGEST_UNFINISHED = 8 * 1024 * 1024
"""A log that still grows is sent whole each time: up to this size."""


class EventLog:
    """The event logs of one step: files that Spark writes into a local folder, and the URI where they belong."""

    def __init__(self, uri: str, folder: Path, settings: StoreSettings) -> None:
        self._store = Store(uri, settings)
        self._folder = folder
        self._sent: dict[str, tuple[int, int]] = {}

    def publish(self, *, ended: bool) -> None:
        """Send what changed. Spark renames a log when its application ends: the unfinished one is deleted then."""
        present = {str(path.relative_to(self._folder)): path for path in self._folder.rglob("*") if path.is_file()}
        for key, path in sorted(present.items()):
            try:
                self._send(key, path, ended=ended)
            except (StoreError, FileNotFoundError) as error:  # renamed meanwhile: the next look finds it
                _LOG.warning("event log not kept uri=%s error=%s", self._store.uri_of(key), error)
        finished = [key for key in self._sent if key.endswith(_UNFINISHED) and key not in present]
        if finished:
            self._forget(finished)

    def _send(self, key: str, path: Path, *, ended: bool) -> None:
        state = path.stat()
        version = (state.st_size, state.st_mtime_ns)
        if path.name.startswith(".") or self._sent.get(key) == version:
            return  # Hadoop keeps checksums in files with a dot
        if ended or state.st_size <= _LARGEST_UNFINISHED:
            self._store.put(key, path.read_bytes())
            self._sent[key] = version

    def _forget(self, keys: list[str]) -> None:
        try:
            self._store.delete(keys)
        except StoreError as error:
            _LOG.warning("unfinished event log not deleted keys=%s error=%s", keys, error)
            return
        for key in keys:
            del self._sent[key]
