"""Read what a step and its executors wrote from where EMR puts their logs: below the cluster's LogUri, gzipped."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace

from shardmill.adapters.store import MissingObjectError, ObjectInfo, Store, StoreError, StoreSettings
from shardmill.core import log_lines

LARGEST_BYTES = 16 * 1024 * 1024
"""A larger log, compressed, is not followed: EMR writes it whole each time, so each look would read it whole."""
LARGEST_TEXT_BYTES = 256 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024
_FIRST_LINES = 50
_TAIL_BYTES = 64 * 1024
_EXECUTORS = 64
"""Logs of executors that are looked into."""
_PATIENCE_SECONDS = 20.0


def log_folder(log_uri: str, cluster_id: str) -> str:
    """Give the folder of a cluster's logs; empty where it keeps none. EMR calls the scheme s3n, too."""
    scheme, separator, rest = log_uri.partition("://")
    return f"s3://{rest.rstrip('/')}/{cluster_id}" if separator and scheme in ("s3", "s3a", "s3n") else ""


class StepOutput:
    """The stdout of a step that runs, in pieces. It fills as EMR sends it: every few minutes."""

    def __init__(self, log_uri: str, cluster_id: str, step_id: str, settings: StoreSettings) -> None:
        self._key = f"steps/{step_id}/stdout.gz"
        folder = log_folder(log_uri, cluster_id)
        self._store = Store(folder, _impatient(settings)) if folder else None
        self._version = ""
        self._offset = 0
        self._first = True
        self._lines = log_lines.NewLines()

    def look(self, *, last: bool = False) -> list[str]:
        """Give the lines that are new since the last look, a bounded number.

        The first look shows the end of what is there only: who looks again after a restart shows nothing twice over
        but that. A log that is not there yet has no lines.

        Raises:
            StoreError: the store did not answer.
        """
        info = self._store.head(self._key) if self._store else None
        if self._store is None or info is None or info.version == self._version:
            return self._lines.take(last=last)
        if info.size > LARGEST_BYTES or self._offset > LARGEST_TEXT_BYTES:
            return self._give_up()
        try:
            self._read(self._store, info)
        except MissingObjectError:
            return self._lines.take(last=last)
        self._version = info.version
        lines = self._lines.take(last=last)
        if self._first and lines:
            self._first = False
            if len(lines) > _FIRST_LINES:
                where = self._store.uri_of(self._key)
                return [f"… what came before is in {where}", *lines[-_FIRST_LINES:]]
        return lines

    def _read(self, store: Store, info: ObjectInfo) -> None:
        position = 0
        for chunk in _unzipped(store.stream(self._key, info.version, end=info.size)):
            new = chunk[max(0, self._offset - position) :]
            position += len(chunk)
            if new and position > self._offset:
                self._lines.feed(new)
                self._offset = position
            if position > LARGEST_TEXT_BYTES:
                return

    def _give_up(self) -> list[str]:
        store, self._store = self._store, None
        where = store.uri_of(self._key) if store else self._key
        return [*self._lines.take(last=True), f"… the output is too long to be shown here: the rest is in {where}"]


def read_last_lines(log_uri: str, cluster_id: str, step_id: str, settings: StoreSettings, count: int = 15) -> str:
    """Read the last lines of a failed step: first of the executors that look like having failed, then the driver's.

    Returns:
        The lines below the names of their logs; empty where no log is there.

    Raises:
        StoreError: the store did not answer.
    """
    folder = log_folder(log_uri, cluster_id)
    if not folder:
        return ""
    store = Store(folder, _impatient(settings))
    names = [f"steps/{step_id}/{name}.gz" for name in ("stdout", "stderr")]
    driver = {name: _tail(store, name) for name in names}
    executors = dict(_executor_tails(store, log_lines.applications(driver.values())))
    parts = [
        (f"the failing executor, containers/{key}", log_lines.last_lines(executors[name][1], count))
        for name in log_lines.failing_first({name: text for name, (_, text) in executors.items()}, _join(driver))[:2]
        for key in (executors[name][0],)
    ]
    parts += [(f"the driver, {name}", log_lines.last_lines(text, count)) for name, text in driver.items()]
    return log_lines.show(parts)


def read_bootstrap_lines(log_uri: str, cluster_id: str, settings: StoreSettings, count: int = 15) -> str:
    """Read the last lines of bootstrap actions on a cluster that failed by them; empty where no log is there.

    Raises:
        StoreError: the store did not answer.
    """
    folder = log_folder(log_uri, cluster_id)
    if not folder:
        return ""
    store = Store(folder, _impatient(settings))
    logs = [
        info for info in store.list("node") if "/bootstrap-actions/" in info.key and info.key.endswith("/stderr.gz")
    ]
    logs.sort(key=lambda info: -info.modified)
    # Of several nodes and actions: the one that wrote last is the one that ended the cluster.
    return log_lines.show([(info.key, log_lines.last_lines(_tail(store, info.key), count)) for info in logs[:1]])


def logs_since(log_uri: str, cluster_id: str, step_id: str, since: float, settings: StoreSettings) -> bool:
    """Say whether a step's logs were sent after a moment (seconds since the epoch), or none ever will be.

    The controller's log is what always has a last word, behind the end of the step.

    Raises:
        StoreError: the store did not answer.
    """
    folder = log_folder(log_uri, cluster_id)
    if not folder:
        return True
    info = Store(folder, _impatient(settings)).head(f"steps/{step_id}/controller.gz")
    return info is not None and info.modified >= since


def _join(texts: dict[str, str]) -> str:
    return "\n".join(texts.values())


def _executor_tails(store: Store, names: list[str]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Give the name of each executor, the key of its stderr, and its end."""
    for application in names:
        logs = [info for info in store.list(f"containers/{application}") if info.key.endswith("/stderr.gz")]
        logs.sort(key=lambda info: -info.modified)
        for info in logs[:_EXECUTORS]:
            name = info.key.split("/")[-2]
            yield name, (info.key.removeprefix("containers/"), _tail(store, info.key))


def _tail(store: Store, key: str) -> str:
    try:
        end = b""
        for chunk in _unzipped(store.stream(key)):
            end = (end + chunk)[-_TAIL_BYTES:]
    except MissingObjectError:
        return ""
    return end.decode(errors="replace")


def _unzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Unzip what comes, in pieces of bounded size, members behind one another too."""
    machine = zlib.decompressobj(wbits=31)
    for chunk in chunks:
        data = chunk
        while data:
            try:
                yield machine.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                raise StoreError(f"a log is damaged: {error}") from error
            data = machine.unused_data if machine.eof else machine.unconsumed_tail
            if machine.eof:
                machine = zlib.decompressobj(wbits=31)


def _impatient(settings: StoreSettings) -> StoreSettings:
    """Logs are looked at again soon: nothing waits long for them."""
    return replace(settings, timeout_seconds=_PATIENCE_SECONDS, patience_seconds=_PATIENCE_SECONDS)
