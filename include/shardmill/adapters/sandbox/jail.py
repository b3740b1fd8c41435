"""The last steps before a program runs in a sandbox: a script of its own, on the standard library alone.

It is given its plan as JSON. Where the plan has a ``root``, it runs under ``unshare`` with every capability in new
namespaces, and builds the root of a file system of its own; bubblewrap has done that before it. Then it lowers the
limits, gives up whatever power is left, and becomes the program. Exit status 125: it could not.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_READ_ONLY, _NO_SUID, _NO_DEV, _NO_EXEC = 1, 2, 4, 8  # as MS_… and as ST_…
_REMOUNT, _NO_ATIME, _NO_DIRATIME, _BIND, _RECURSIVE = 32, 1 << 10, 1 << 11, 1 << 12, 1 << 14
_RELATIME, _STRICT_ATIME = 1 << 21, 1 << 24
_DETACH = 2
_PR_NO_NEW_PRIVS, _PR_BOUNDING_READ, _PR_BOUNDING_DROP, _PR_AMBIENT = 38, 23, 24, 47
_PR_AMBIENT_CLEAR, _PR_READ_NO_NEW_PRIVS = 4, 39
_CAPABILITY_VERSION = 0x20080522
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_KEYCTL = {"x86_64": 250, "aarch64": 219}
_KEYCTL_JOIN_SESSION = 1
_DEVICES = ("null", "zero", "urandom", "random")
_FAILED = 125


class JailError(RuntimeError):
    """A step did not take."""


def mount(source: str, target: str, kind: str = "", *, flags: int = 0, options: str = "") -> None:
    """Mount, by the system call."""
    done = _LIBC.mount(
        os.fsencode(source), os.fsencode(target), kind.encode() or None, ctypes.c_ulong(flags), options.encode() or None
    )
    if done:
        raise JailError(f"mount {source} on {target}: {os.strerror(ctypes.get_errno())}")


def pivot_root(new: str, old: str) -> None:
    """Make a mount the root of everything, and move the old root."""
    if _LIBC.syscall(_PIVOT_ROOT[platform.machine()], new.encode(), old.encode()):
        raise JailError(f"pivot_root: {os.strerror(ctypes.get_errno())}")


# ---------------------------------------------------------------- a file system of its own


def build_root(root: dict[str, Any]) -> None:
    """Build an empty root, bind what the plan names, and leave everything else behind."""
    work = root["work"]
    os.umask(0o022)
    # The first tmpfs only holds both roots while this lasts: so every path outside stays in reach, below /old.
    mount("tmpfs", work, "tmpfs", flags=_NO_SUID | _NO_DEV, options="mode=755,size=1m")
    os.chdir(work)
    for name in ("old", "new"):
        Path(name).mkdir()
    pivot_root(".", "old")
    os.chdir("/")
    mount("tmpfs", "/new", "tmpfs", flags=_NO_SUID | _NO_DEV, options="mode=755,size=1m")
    _private_tmp(root["tmp_bytes"])
    for path, target in root["links"]:
        Path(f"/new{path}").parent.mkdir(parents=True, exist_ok=True)
        Path(f"/new{path}").symlink_to(target)
    for outside, inside in [*root["binds"], (root["work_outside"], work)]:
        _bind(outside, inside)
    _restrict_mounts(work)
    _bind_devices()
    mount("", "/new", flags=_REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEV)
    os.chdir("/new")
    pivot_root(".", ".")  # the old root now lies on top of the new one
    if _LIBC.umount2(b".", _DETACH):
        raise JailError(f"umount: {os.strerror(ctypes.get_errno())}")
    os.chdir(work)


def _private_tmp(size: int) -> None:
    Path("/new/tmp").mkdir()
    mount("tmpfs", "/new/tmp", "tmpfs", flags=_NO_SUID | _NO_DEV, options=f"mode=755,size={size}")


def _bind(outside: str, inside: str) -> None:
    source, target = Path(f"/old{outside}"), Path(f"/new{inside}")
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    # Not without what is mounted below: the kernel refuses to uncover that for the namespace of a user.
    mount(str(source), str(target), flags=_BIND | _RECURSIVE)


def _restrict_mounts(work: str) -> None:
    """Make all that was bound read-only, but for the work folder; each mount keeps the flags it has."""
    for path in list(_mount_points()):
        is_work = path == f"/new{work}" or path.startswith(f"/new{work}/")
        if path.startswith("/new/") and path != "/new/tmp":
            keep = _flags_of(path) | _NO_SUID | _NO_DEV
            mount("", path, flags=_REMOUNT | _BIND | keep | (0 if is_work else _READ_ONLY))


def _flags_of(path: str) -> int:
    """Give a mount's flags: where they came from another namespace, a remount without them is refused."""
    now = os.statvfs(path).f_flag
    kept = now & (_READ_ONLY | _NO_SUID | _NO_DEV | _NO_EXEC | _NO_ATIME | _NO_DIRATIME)
    if now & os.ST_NOATIME:
        return kept
    return kept | (_RELATIME if now & os.ST_RELATIME else _STRICT_ATIME)


def _mount_points() -> Iterator[str]:
    for line in Path("/old/proc/self/mountinfo").read_bytes().splitlines():
        # The kernel writes blanks and the like as \040; nothing else in a path is changed.
        path = re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), line.split(b" ")[4])
        yield os.fsdecode(path)


def _bind_devices() -> None:
    for name in _DEVICES:
        _bind(f"/dev/{name}", f"/dev/{name}")
        mount("", f"/new/dev/{name}", flags=_REMOUNT | _BIND | _flags_of(f"/new/dev/{name}") | _NO_SUID | _NO_EXEC)


# ---------------------------------------------------------------- no power


def follow(starter: int) -> None:
    """Give up where the one that let us in is gone: it may have ended before the kernel was told to end us with it.

    Args:
        starter: the process that has to be our parent, by its number outside. From inside, only the folder /proc
            outside, open as descriptor 3, tells who that is.
    """
    with open("self/status", opener=lambda path, flags: os.open(path, flags, dir_fd=3)) as status:
        parent = next(line for line in status if line.startswith("PPid:"))
    if int(parent.split()[1]) != starter:
        raise JailError("the caller is gone")


def forbid_user_namespaces() -> None:
    """Keep the program from new user namespaces, in which it would have power over a part of the kernel again."""
    try:
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
    except OSError:
        return  # a container may show /proc/sys read-only; the program has no capability all the same


def leave_keyring() -> None:
    """Start with an empty session keyring: the caller's may hold credentials. Not every kernel has keyrings."""
    number = _KEYCTL.get(platform.machine())
    if number is not None:
        _LIBC.syscall(number, _KEYCTL_JOIN_SESSION, None)


def drop_capabilities() -> None:
    """Give up every capability for good, and see that it is so."""
    number = 0
    while (held := _LIBC.prctl(_PR_BOUNDING_READ, number, 0, 0, 0)) >= 0:
        if held and _LIBC.prctl(_PR_BOUNDING_DROP, number, 0, 0, 0):
            raise JailError(f"capability {number} cannot be dropped: {os.strerror(ctypes.get_errno())}")
        number += 1
    _LIBC.prctl(_PR_AMBIENT, _PR_AMBIENT_CLEAR, 0, 0, 0)
    header, data = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    if _LIBC.capset(header, data):
        raise JailError(f"capset: {os.strerror(ctypes.get_errno())}")
    if _LIBC.capget(header, data) or any(data):
        raise JailError("capabilities are left")


def forbid_new_privileges() -> None:
    """See to it that no program started from here can gain a privilege."""
    _LIBC.prctl(_PR_NO_NEW_PRIVS, 1, 0, 0, 0)
    if _LIBC.prctl(_PR_READ_NO_NEW_PRIVS, 0, 0, 0, 0) != 1:
        raise JailError("no_new_privs is not set")


def lower_limits(limits: dict[str, int]) -> None:
    """Lower limits, soft and hard alike, never above what holds already."""
    for name, wanted in limits.items():
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(number, (limit, limit))


def enter(plan: dict[str, Any]) -> None:
    """Do what the plan says, up to the point where only the program is missing."""
    if plan["isolated"]:
        follow(int(sys.argv[2]))
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    if os.getsid(0) != os.getpid():
        os.setsid()
    if plan["root"]:
        forbid_user_namespaces()
        _LIBC.sethostname(b"sandbox", 7)
        build_root(plan["root"])
    if plan["isolated"]:
        leave_keyring()
        drop_capabilities()
    else:
        os.chdir(plan["work"])
    forbid_new_privileges()
    lower_limits(plan["limits"])


def main() -> None:
    """Become the program of the plan."""
    plan = json.loads(sys.argv[1])
    try:
        enter(plan)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and the program would inherit that
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(plan["argv"][0], plan["argv"], plan["environment"])  # noqa: S606
    except (JailError, OSError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        sys.exit(_FAILED)


if __name__ == "__main__":
    main()
