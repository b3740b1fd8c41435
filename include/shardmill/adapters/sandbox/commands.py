"""The command lines that put a program into a sandbox: one function for each way in."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from shardmill.adapters.sandbox.view import View

_GIB = 1024**3
_TMP_BYTES = 64 * 1024**2
_LIMITS = {"RLIMIT_CORE": 0, "RLIMIT_NOFILE": 256, "RLIMIT_FSIZE": 4 * _GIB, "RLIMIT_AS": 4 * _GIB}
"""The program lowers them further by itself. Bytes, but for the number of open files."""
_MOST_PROCESSES = 512
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/tmp",  # noqa: S108 (inside it is private)
    "TMPDIR": "/tmp",  # noqa: S108
    "PYTHONDONTWRITEBYTECODE": "1",
    # A thread for each core of a big machine would need more address space than there is.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
_FOLLOWED = ("/bin/sh", "-c", 'exec "$@" "$$" 3</proc', "sh")
"""Tells ``jail.py``, as its last argument and open file 3, whose child it must be; see its ``follow``."""
FEWER_PROCESSES, OWN_CGROUP, NO_USER_NAMESPACES = "fewer processes", "own cgroup", "no user namespaces"
"""What a sandbox has besides, where a trial with it works."""


@dataclass(frozen=True)
class Entry:
    """Who lets the program in, and what it may see."""

    program: str
    """Path of bwrap or unshare."""
    extras: frozenset[str]
    view: View


def bubblewrap_command(entry: Entry, argv: Sequence[str], work: Path) -> list[str]:
    """Give the command line by bubblewrap."""
    namespaces = [f"--unshare-{name}" for name in ("user", "pid", "net", "ipc", "uts", "cgroup-try")]
    if NO_USER_NAMESPACES in entry.extras:
        namespaces.append("--disable-userns")
    behaviour = ["--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL", "--clearenv"]
    identity = ["--uid", "0", "--gid", "0", "--hostname", "sandbox"]
    mounts = ["--size", str(_TMP_BYTES), "--tmpfs", "/tmp"]  # noqa: S108
    for device in ("null", "zero", "urandom", "random"):
        mounts += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    for path, target in entry.view.links:
        mounts += ["--symlink", target, path]
    for outside, inside in entry.view.binds:
        mounts += ["--ro-bind", outside, inside]
    mounts += ["--bind", str(work.resolve()), str(work), "--remount-ro", "/", "--chdir", str(work)]
    plan = _plan(argv, work, limits=_limits(entry.extras))
    return [*_FOLLOWED, entry.program, *namespaces, *behaviour, *identity, *mounts, "--", *_jail(plan)]


def namespaces_command(entry: Entry, argv: Sequence[str], work: Path) -> list[str]:
    """Give the command line by util-linux's unshare; ``jail.py`` builds the file system inside."""
    names = ["user", "map-root-user", "mount", "net", "pid", "ipc", "uts"]
    names += ["cgroup"] if OWN_CGROUP in entry.extras else []
    root = {
        "work": str(work),
        "work_outside": str(work.resolve()),
        "tmp_bytes": _TMP_BYTES,
        "binds": entry.view.binds,
        "links": entry.view.links,
    }
    plan = _plan(argv, work, limits=_limits(entry.extras), root=root)
    options = [*(f"--{name}" for name in names), "--fork", "--kill-child=SIGKILL"]
    return [*_FOLLOWED, entry.program, *options, "--", *_jail(plan)]


def bare_command(entry: Entry, argv: Sequence[str], work: Path) -> list[str]:
    """Give the command line without any sandbox: limits and an empty environment only."""
    return _jail(_plan(argv, work, limits=_limits(entry.extras), isolated=False))


COMMANDS: dict[str, Callable[[Entry, Sequence[str], Path], list[str]]] = {
    "bubblewrap": bubblewrap_command,
    "namespaces": namespaces_command,
    "none": bare_command,
}


def _limits(extras: frozenset[str]) -> dict[str, int]:
    return {**_LIMITS, "RLIMIT_NPROC": _MOST_PROCESSES} if FEWER_PROCESSES in extras else _LIMITS


def _plan(
    argv: Sequence[str],
    work: Path,
    *,
    limits: dict[str, int],
    root: dict[str, Any] | None = None,
    isolated: bool = True,
) -> str:
    plan = {"argv": list(argv), "work": str(work), "environment": _ENVIRONMENT, "limits": limits}
    return json.dumps({**plan, "root": root, "isolated": isolated})


def _jail(plan: str) -> list[str]:
    """Give the command that runs ``jail.py``: its text, where the package is a zip."""
    script = Path(__file__).with_name("jail.py")
    code = [str(script)] if script.is_file() else ["-c", resources.files(__package__).joinpath("jail.py").read_text()]
    return [sys.executable, "-I", "-S", *code, plan]
