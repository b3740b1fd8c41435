"""Wait until the local AWS is gone, however it ended, then kill every process that carries its mark.

Run as ``python -m shardmill.localcloud.guardian MARK`` with a pipe from the local AWS as stdin. The kernel kills the
JVMs that the local AWS forked by itself when it dies (PR_SET_PDEATHSIG); what those had started in turn, executors
and Python workers, may be busy for minutes and notice nothing. All of them inherited the mark in their environment.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from shardmill.adapters.process import ProcessInfo, kill_until_gone, list_processes

MARK_VARIABLE = "SHARDMILL_LOCAL_CLOUD"


def marked_processes(mark: str) -> set[ProcessInfo]:
    """Find the processes that were started with the mark in their environment."""
    wanted = f"{MARK_VARIABLE}={mark}".encode()
    found = set()
    for info in list_processes():
        try:
            environment = Path(f"/proc/{info.pid}/environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended meanwhile, or belongs to someone else
        if wanted in environment.split(b"\0"):
            found.add(info)
    return found


def main(argv: list[str]) -> int:
    """Block until stdin ends, then kill what is marked."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when the local AWS ends, never before
    sys.stdin.buffer.read()
    return 0 if kill_until_gone(lambda: marked_processes(argv[0]), limit_seconds=20) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
