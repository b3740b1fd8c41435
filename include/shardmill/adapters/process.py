"""Child processes that never outlive what started them, and the end of a process with all that it started. Linux."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)  # loaded here: after a fork nothing may be imported or allocated lightly
_PROC = Path("/proc")
_forking = [0]  # who forks; a child asks whether that is its parent still (which may well be process 1)
_POLL_SECONDS = 0.05
_KILL_SECONDS = 5.0


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that forked it ends; for ``Popen(preexec_fn=…)``.

    Fork from a thread that lives as long as the program: the kernel watches the thread, not the process.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != _forking[0]:  # the parent ended before the request took hold
        os._exit(1)


def _note_parent() -> None:
    _forking[0] = os.getpid()


os.register_at_fork(before=_note_parent)


def start_child(argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a program that dies with the calling thread, in a session of its own, without stdin.

    Args:
        argv: the program and its arguments.
        options: of ``Popen``, such as ``env``, ``cwd``, ``stdout``.
    """
    defaults: dict[str, Any] = {"stdin": subprocess.DEVNULL, "start_new_session": True}
    # After the fork die_with_parent makes two system calls and takes no lock, so other threads do no harm.
    return subprocess.Popen(argv, preexec_fn=die_with_parent, **{**defaults, **options})  # noqa: PLW1509


@dataclass(frozen=True)
class ProcessInfo:
    """A process as /proc shows it; pid and start time together are never used twice."""

    pid: int
    started: int
    parent: int
    session: int


def read_process(pid: int) -> ProcessInfo | None:
    """Look at a process; None where it is gone or only waits to be reaped."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything, brackets too
    if fields[0] in "ZX":
        return None
    return ProcessInfo(pid, int(fields[19]), int(fields[1]), int(fields[3]))


def list_processes() -> list[ProcessInfo]:
    """List the processes of this machine that this user can see."""
    pids = (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())
    return [info for pid in pids if (info := read_process(pid)) is not None]


def process_tree(pid: int) -> set[ProcessInfo]:
    """Collect a process, its descendants, and what stayed in the session that it leads."""
    everything = list_processes()
    children: dict[int, list[ProcessInfo]] = {}
    for info in everything:
        children.setdefault(info.parent, []).append(info)
    found = {info for info in everything if info.pid == pid or info.session == pid}
    waiting = list(found)
    while waiting:
        for child in children.get(waiting.pop().pid, ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def send_signal(processes: Iterable[ProcessInfo], number: int) -> None:
    """Send a signal to those of the processes that are still the same ones."""
    for info in processes:
        now = read_process(info.pid)
        if now is not None and now.started == info.started:
            try:
                os.kill(info.pid, number)
            except (ProcessLookupError, PermissionError):
                continue


def kill_until_gone(find: Callable[[], set[ProcessInfo]], limit_seconds: float = _KILL_SECONDS) -> bool:
    """Kill what ``find`` gives, again and again, for a dying process may have forked. Returns whether all is gone."""
    deadline = time.monotonic() + limit_seconds
    while found := find():
        send_signal(found, signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def terminate_tree(pid: int, grace_seconds: float = 5.0) -> bool:
    """End a process and all that it started: by SIGTERM, and after the grace by SIGKILL.

    The caller reaps the process where it is its child (``Popen.wait``).

    Args:
        pid: the process; best the leader of a session of its own (``start_new_session=True``), for then what was
            left behind by a dead parent inside is found too.
        grace_seconds: how long the processes may take to end by themselves.

    Returns:
        Whether nothing of it is left.
    """
    known = process_tree(pid)
    send_signal(known, signal.SIGTERM)

    def remaining() -> set[ProcessInfo]:
        known.update(process_tree(pid))
        for info in list(known):
            now = read_process(info.pid)
            if now is None or now.started != info.started:
                known.discard(info)
        return set(known)

    deadline = time.monotonic() + grace_seconds
    while remaining():
        if time.monotonic() >= deadline:
            return kill_until_gone(remaining)
        time.sleep(_POLL_SECONDS)
    return True
