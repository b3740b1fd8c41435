"""The bootstrap actions of one cluster: each is fetched and run in the machine of its primary node, one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Protocol

from shardmill.adapters.store import Store, StoreError, StoreSettings, split_uri
from shardmill.localcloud.cluster_failures import (
    ClusterFailureError,
    all_nodes_lost,
    bootstrap_failed,
    bootstrap_not_fetched,
)
from shardmill.localcloud.emr_nodes import primary_instance
from shardmill.localcloud.emr_state import Cluster
from shardmill.localcloud.step_logs import LogFolder

_TAIL_BYTES = 4096


class NodeMachine(Protocol):
    """What scripts of a node run in: see ``machine.Machine``."""

    def run(self, script: Path, arguments: Sequence[str], *, stdout: Path, stderr: Path) -> None: ...

    def poll(self) -> int | None: ...

    def shut_down(self) -> bool: ...

    def stop(self) -> None: ...


class BootstrapRun:
    """The bootstrap actions of one cluster; ``poll`` moves them on. To be polled by one long-lived thread."""

    def __init__(
        self, cluster: Cluster, machine: NodeMachine, folder: Path, *, logs: LogFolder, store: StoreSettings
    ) -> None:
        self._actions: Sequence[Mapping[str, object]] = [
            action["ScriptBootstrapAction"] for action in cluster.request.get("BootstrapActions", ())
        ]
        self._instance = primary_instance(cluster)
        self._machine = machine
        self._folder = folder
        self._logs = logs
        self._store = store
        self._done = 0
        self._fetching: Future[Path] | None = None
        self._publishing: Future[None] | None = None
        self._runs = False
        self._status = 0

    def poll(self, pool: Executor) -> bool:
        """Move on; True once all of them ended well. Raises ClusterFailureError, once the logs are kept."""
        if self._publishing is not None:
            return self._see_logs_kept()
        if self._done == len(self._actions):
            self.check()
            return True
        if self._runs:
            self._look_at_script(pool)
        elif self._fetching is None:
            self._fetching = pool.submit(self._fetch)
        elif self._fetching.done():
            self._start(self._fetching)
        return False

    def check(self) -> None:
        """Raise ClusterFailureError where the machine was shut down from inside."""
        if self._machine.shut_down():
            raise ClusterFailureError(all_nodes_lost())

    def stop(self) -> None:
        """End whatever the actions left running."""
        self._machine.stop()

    @property
    def _place(self) -> Path:
        return self._folder / str(self._done + 1)

    def _fetch(self) -> Path:
        path = str(self._actions[self._done]["Path"])
        scheme, separator, rest = path.partition("://")
        if not separator or scheme not in ("s3", "s3a", "s3n"):
            raise ValueError(f"expected s3://bucket/key, found {path}")
        folder, name = split_uri(f"s3://{rest}")
        self._place.mkdir(parents=True, exist_ok=True)
        target = self._place / name
        target.write_bytes(Store(folder, self._store).get(name))
        return target

    def _start(self, fetching: Future[Path]) -> None:
        action = self._actions[self._done]
        try:
            script = fetching.result()
        except (StoreError, ValueError, OSError) as error:
            reason = bootstrap_not_fetched(self._instance, self._done + 1, str(action["Path"]), str(error))
            raise ClusterFailureError(reason) from error
        self._fetching = None
        arguments = action.get("Args") or ()
        if not isinstance(arguments, (list, tuple)):
            raise TypeError(f"Args: expected a list, found {arguments!r}")  # the service's model has it so
        self._machine.run(script, list(arguments), stdout=self._place / "stdout", stderr=self._place / "stderr")
        self._runs = True

    def _look_at_script(self, pool: Executor) -> None:
        status = self._machine.poll()
        if status is None and not self._machine.shut_down():
            return
        self._runs = False
        self._status = status or 0
        self._publishing = pool.submit(self._logs.publish_bootstrap, self._instance, self._done + 1, self._place)

    def _see_logs_kept(self) -> bool:
        if self._publishing is None or not self._publishing.done():
            return False
        self._publishing.result()
        self._publishing = None
        self.check()
        if self._status:
            last = _last_line(self._place / "stderr") or _last_line(self._place / "stdout")
            raise ClusterFailureError(bootstrap_failed(self._instance, self._done + 1, self._status, last))
        self._done += 1
        return False


def _last_line(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = log.read().decode(errors="replace").split("\n")
    return next((line.strip()[:400] for line in reversed(lines) if line.strip()), "")
