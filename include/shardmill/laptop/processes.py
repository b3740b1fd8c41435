"""The stack's processes: each logs to a file, none outlives us, all end together."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from shardmill.adapters.process import ProcessInfo, die_with_parent, kill_until_gone, process_tree

PR_SET_CHILD_SUBREAPER = 36
GRACE_SECONDS = 12.0
TAIL_LINES = 30


class ProcessError(RuntimeError):
    """A process of the stack ended by itself; holds the last lines of its log."""


def adopt_orphans() -> None:
    """Make grandchildren whose parent died ours, so that stop() finds them."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """Give the last lines of a log."""
    if not path.exists():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


class Processes:
    """Start processes, notice when one dies, end them all. A held resource: use it in a with block."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        logs.mkdir(parents=True, exist_ok=True)
        adopt_orphans()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, name: str, argv: list[str], environment: Mapping[str, str]) -> int:
        """Start a process in a session of its own (a Ctrl-C is ours to pass on); give its id."""
        with (self.logs / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                argv,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it makes one system call
            )
        self._running[name] = process
        return process.pid

    def run(self, name: str, argv: list[str], environment: Mapping[str, str]) -> None:
        """Run a process to its end. Raises ProcessError where it fails."""
        self.start(name, argv, environment)
        status = self._running[name].wait()
        del self._running[name]
        if status:
            raise ProcessError(f"{name} ended with status {status}:\n{tail(self.logs / f'{name}.log')}")

    def check(self) -> None:
        """Raise ProcessError where a process has ended that should run."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise ProcessError(
                    f"{name} ended by itself with status {process.returncode}:\n{tail(self.logs / f'{name}.log')}"
                )

    def stop(self) -> None:
        """End all, the last started first; what is left after a grace period is killed, orphans included."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # an impatient second Ctrl-C must not leave half of it running
        give_up = time.monotonic() + GRACE_SECONDS
        for process in reversed(self._running.values()):
            if process.poll() is None:
                process.terminate()
        for process in reversed(self._running.values()):
            try:
                process.wait(max(0.1, give_up - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()
        kill_until_gone(_orphans)
        _orphans()  # once more, to reap what was killed last


def _orphans() -> set[ProcessInfo]:
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                break
        except ChildProcessError:
            break
    return {info for info in process_tree(os.getpid()) if info.pid != os.getpid()}
