"""Read what strace wrote: which files were opened, which programs were started, which sockets were made."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

STRACE = shutil.which("strace")
TRACED = "open,openat,openat2,creat,execve,execveat,socket,connect,bind,sendto,sendmsg,mount,pivot_root,chroot"
_CALL = re.compile(r"^(?:\[pid +\d+\] |\d+ +)?(\w+)\((.*)\) += (-?\d+|\?)(?:<(.*?)>)?(?: .*)?$")
_ADDRESS = re.compile(r"\bAF_(INET6?|NETLINK|PACKET|UNIX)\b")


@dataclass(frozen=True)
class Call:
    """A system call that was made."""

    name: str
    arguments: str
    result: str
    path: str
    """Of the file descriptor that it gave."""

    @property
    def succeeded(self) -> bool:
        return self.result.isdigit()

    @property
    def family(self) -> str:
        """Address family that it names; empty for none."""
        found = _ADDRESS.search(self.arguments)
        return found[0] if found else ""


def why_not() -> str:
    """Say why nothing can be traced; empty where it can."""
    if STRACE is None:
        return "strace is not installed"
    done = subprocess.run([STRACE, "-f", "-o", "/dev/null", "true"], check=False, capture_output=True, text=True)
    return "" if done.returncode == 0 else f"strace cannot trace: {done.stderr.strip()[-200:]}"


def traced(log: Path) -> list[str]:
    """Give the program, and its arguments, that runs another and writes down its calls."""
    assert STRACE is not None
    return [STRACE, "-f", "-y", "-qq", "-s", "4096", "-e", f"trace={TRACED}", "-e", "signal=none", "-o", str(log)]


def read_calls(log: Path) -> Iterator[Call]:
    """Yield the calls, those that another thread interrupted put together."""
    halves: dict[str, str] = {}
    for line in log.read_text(errors="replace").splitlines():
        process, _, text = line.partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            halves[process] = text.removesuffix("<unfinished ...>")
            continue
        if text.startswith("<... "):
            text = halves.pop(process, "") + text.partition("resumed>")[2]
        if found := _CALL.match(text):
            yield Call(found[1], found[2], found[3], found[4] or "")
