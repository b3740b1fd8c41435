"""Find the sandbox that this machine can have, by trying it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from shardmill.adapters.process import start_child
from shardmill.adapters.sandbox.commands import COMMANDS, FEWER_PROCESSES, NO_USER_NAMESPACES, OWN_CGROUP, Entry
from shardmill.adapters.sandbox.view import View, program_view
from shardmill.adapters.scratch import scratch_folder

UNSANDBOXED_OK = "SHARDMILL_UNSANDBOXED_OK"
"""The environment variable that lets programs run without a sandbox, by ``1``."""
Kind = Literal["bubblewrap", "namespaces", "none"]
_PROGRAMS: dict[Kind, str] = {"bubblewrap": "bwrap", "namespaces": "unshare"}
_EXTRAS: dict[Kind, tuple[str, str]] = {
    "bubblewrap": (NO_USER_NAMESPACES, FEWER_PROCESSES),
    "namespaces": (OWN_CGROUP, FEWER_PROCESSES),
}
_TRIAL_SECONDS = 30
_FINDING = threading.Lock()
_MEND = (
    "install bubblewrap (0.8 or later; apt install bubblewrap), allow unprivileged user namespaces, "
    f"or set {UNSANDBOXED_OK}=1 to read videos without a sandbox, if you trust whoever made them"
)
_TRIAL = """
import os, socket, sys
if os.getpid() != 1:
    sys.exit("the program sees processes outside")
if os.path.exists(sys.argv[1]):
    sys.exit("the program sees files outside")
if [name for _, name in socket.if_nameindex()] not in ([], ["lo"]):
    sys.exit("the program sees network devices")
if os.fork() == 0:
    os._exit(0)
os.wait()
with open("out", "x") as out:
    out.write("inside")
"""


class SandboxError(RuntimeError):
    """No sandbox can be had here."""


@dataclass(frozen=True)
class Sandbox:
    """A way to run programs apart from this machine."""

    kind: Kind
    program: str = ""
    """Path of bwrap or unshare."""
    extras: frozenset[str] = frozenset()
    view: View = field(default_factory=program_view, repr=False)

    def command(self, argv: Sequence[str], *, work: Path) -> list[str]:
        """Give the command line that runs a program inside.

        Start it by ``start_child`` and end it by SIGKILL: inside, the program is process 1, to which the kernel passes
        no other signal that it does not handle, and ``unshare`` itself waits through a SIGTERM.

        Args:
            argv: the program and its arguments; its folder is ``work``.
            work: an existing folder, which it may read and write, at the same path as here.
        """
        if not work.is_absolute() or not work.is_dir():
            raise ValueError(f"expected an existing folder with an absolute path to work in, found {work}")
        covered = [inside for _, inside in self.view.binds if Path(inside).is_relative_to(work)]
        if covered:
            raise ValueError(f"the folder to work in would open what must stay read-only: {work} holds {covered[0]}")
        return COMMANDS[self.kind](Entry(self.program, self.extras, self.view), argv, work)


def find_sandbox() -> Sandbox:
    """Find the sandbox for this process: by bubblewrap, else by unshare, else none where the variable allows that."""
    with _FINDING:  # threads that begin together wait for one trial, instead of each making its own
        return _found()


def likely_sandbox() -> Sandbox | None:
    """Give what `find_sandbox` will most likely give, untried: the first choice that is installed, with every extra.

    A program may be started in it, and has to be ended where `find_sandbox` gives another one or none. Nothing of a
    stranger's may be handed to it before.
    """
    if _found.cache_info().currsize:
        return _found()
    installed = [(kind, path) for kind, name in _PROGRAMS.items() if (path := shutil.which(name))]
    return _sandbox(*installed[0], frozenset(_EXTRAS[installed[0][0]])) if installed else None


@cache
def _found() -> Sandbox:
    refusals = []
    for kind in _PROGRAMS:
        try:
            return _find(kind)
        except SandboxError as refusal:
            refusals.append(str(refusal))
    if os.environ.get(UNSANDBOXED_OK) == "1":
        return Sandbox("none")
    raise SandboxError(f"no sandbox can be had here ({'; '.join(refusals)}): {_MEND}")


def _find(kind: Kind) -> Sandbox:
    """Find a sandbox of one kind, with as many extras as work."""
    program = shutil.which(_PROGRAMS[kind])
    if program is None:
        raise SandboxError(f"{_PROGRAMS[kind]} is not installed")
    every = frozenset(_EXTRAS[kind])
    refusal = ""
    for extras in (every, *(every - {extra} for extra in _EXTRAS[kind]), frozenset[str]()):
        sandbox = _sandbox(kind, program, extras)
        answer = _try(sandbox)
        if not answer:
            return sandbox
        refusal = refusal or answer
    raise SandboxError(f"{_PROGRAMS[kind]}: {refusal}")


def _sandbox(kind: Kind, program: str, extras: frozenset[str]) -> Sandbox:
    return Sandbox(kind, str(Path(program).absolute()), extras, program_view())


def _try(sandbox: Sandbox) -> str:
    """Run a small program inside. Returns the last line of what went wrong, or nothing."""
    with scratch_folder("trial-") as folder:
        work, canary = folder / "work", folder / "outside"
        work.mkdir()
        canary.touch()
        argv = [sys.executable, "-I", "-S", "-c", _TRIAL, str(canary)]
        child = start_child(sandbox.command(argv, work=work), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            message = child.communicate(timeout=_TRIAL_SECONDS)[1].decode(errors="replace").strip()
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return f"no answer in {_TRIAL_SECONDS} s"
        if child.returncode:
            return message.splitlines()[-1] if message else f"exit status {child.returncode}"
        return "" if (work / "out").is_file() else "the program's file did not come out"
