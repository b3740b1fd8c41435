"""The command line that starts a machine in namespaces of its own: by bubblewrap or by unshare."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import shardmill
from shardmill.adapters.sandbox import Sandbox
from shardmill.localcloud.machine_root import MachineRoot

HOSTNAME = "local-machine"
_NAMESPACES = ("user", "pid", "net", "ipc", "uts")
_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from shardmill.localcloud.machine_init import main; main()"
_INCLUDE = str(Path(shardmill.__file__).absolute().parents[1])


def start_command(sandbox: Sandbox, root: MachineRoot, plan: dict[str, Any]) -> list[str]:
    """Give the command that makes the namespaces and starts process 1 in them, by the way that works here.

    Args:
        sandbox: the way that was found.
        root: what shows inside.
        plan: for process 1; see ``machine_init``.
    """
    if sandbox.kind == "bubblewrap":
        return _bubblewrap(sandbox.program, root, plan)
    return _unshare(sandbox.program, root, plan)


def _bubblewrap(program: str, root: MachineRoot, plan: dict[str, Any]) -> list[str]:
    namespaces = [f"--unshare-{name}" for name in (*_NAMESPACES, "cgroup-try")]
    behaviour = ["--die-with-parent", "--as-pid-1", "--cap-drop", "ALL", "--clearenv"]
    identity = ["--uid", "0", "--gid", "0", "--hostname", HOSTNAME]
    mounts = ["--bind", str(root.folder), "/", "--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev"]
    for outside, inside in root.binds:
        mounts += ["--ro-bind", outside, inside]
    return [program, *namespaces, *behaviour, *identity, *mounts, "--chdir", "/", "--", *_init(root.python, plan)]


def _unshare(program: str, root: MachineRoot, plan: dict[str, Any]) -> list[str]:
    options = [f"--{name}" for name in (*_NAMESPACES, "map-root-user", "mount", "fork")]
    built = {"folder": str(root.folder), "binds": root.binds, "devices": root.devices, "hostname": HOSTNAME}
    # Outside still, the interpreter has its own path; its root is put up by process 1 itself.
    return [program, *options, "--kill-child=SIGKILL", "--", *_init(sys.executable, {**plan, "root": built})]


def _init(python: str, plan: dict[str, Any]) -> Sequence[str]:
    return [python, "-I", "-S", "-c", _START, _INCLUDE, json.dumps(plan)]
