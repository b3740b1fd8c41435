"""Put the logs of steps and executors where EMR puts them, below the cluster's LogUri."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterator
from pathlib import Path

from shardmill.adapters.store import Store, StoreError, StoreSettings

_LOG = logging.getLogger(__name__)
STEP_LOGS = ("controller", "stdout", "stderr")


class LogFolder:
    """The logs of one cluster at its LogUri; without one nothing is kept, as on EMR."""

    def __init__(self, log_uri: str, cluster_id: str, settings: StoreSettings) -> None:
        scheme, separator, rest = log_uri.partition("://")
        self.uri = f"s3://{rest.rstrip('/')}/{cluster_id}" if separator and scheme in ("s3", "s3a", "s3n") else ""
        self._settings = settings
        self._sent: dict[Path, tuple[int, int]] = {}

    def step_log(self, step_id: str, name: str) -> str:
        """Give the URI of a step's log."""
        return f"{self.uri}/steps/{step_id}/{name}.gz" if self.uri else ""

    def publish_step(self, step_id: str, folder: Path) -> None:
        """Send the logs of a step that changed since they were last sent."""
        for name in STEP_LOGS:
            self._send(folder / name, f"steps/{step_id}/{name}.gz")

    def publish_bootstrap(self, instance: str, number: int, folder: Path) -> None:
        """Send what a bootstrap action, counted from 1, wrote."""
        for name in ("stdout", "stderr"):
            self._send(folder / name, f"node/{instance}/bootstrap-actions/{number}/{name}.gz")

    def publish_executors(self, work: Path) -> None:
        """Send the logs of the executors, below ``containers/<application>/<executor>/``."""
        for path, application, executor in _executor_logs(work):
            self._send(path, f"containers/{application}/{executor}/{path.name}.gz")

    def _send(self, path: Path, key: str) -> None:
        if not self.uri or not path.exists():
            return
        state = path.stat()
        version = (state.st_size, state.st_mtime_ns)
        if self._sent.get(path) == version:
            return
        try:
            Store(self.uri, self._settings).put(key, gzip.compress(path.read_bytes(), mtime=0))
        except StoreError as error:
            # As on EMR: a job does not fail because its logs have no place.
            _LOG.warning("log not kept uri=%s/%s error=%s", self.uri, key, error)
            return
        self._sent[path] = version


def _executor_logs(work: Path) -> Iterator[tuple[Path, str, str]]:
    for pattern in ("stdout", "stderr"):
        for path in sorted(work.glob(f"*/app-*/*/{pattern}")):
            yield path, path.parent.parent.name, path.parent.name
