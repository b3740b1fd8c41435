"""The mounts and the loopback device of a machine, by system calls from inside its namespaces."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import Any

from shardmill.adapters.sandbox.jail import JailError, mount, pivot_root

_LIBC = ctypes.CDLL(None, use_errno=True)
_READ_ONLY, _NO_SUID, _NO_DEV, _NO_EXEC, _BIND, _RECURSIVE = 1, 2, 4, 8, 1 << 12, 1 << 14
_DETACH = 2
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000
_READ_ONLY_ATTRIBUTES = 1 | 2 | 4  # read-only, no set-user-id, no devices
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1


def build_root(root: dict[str, Any]) -> None:
    """Put up the machine's file system and leave the host's behind (bubblewrap has done so before, where it is used).

    Raises:
        JailError: the kernel refuses a step.
    """
    folder = root["folder"]
    _LIBC.sethostname(root["hostname"].encode(), len(root["hostname"]))
    mount(folder, folder, flags=_BIND | _RECURSIVE)
    for outside, inside in root["binds"]:
        _bind(outside, f"{folder}{inside}", writable=False)
    for device in root["devices"]:
        _bind(device, f"{folder}{device}", writable=True)
    for name, target in {"fd": "fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}.items():
        Path(f"{folder}/dev/{name}").symlink_to(f"/proc/self/{target}")
    Path(f"{folder}/dev/shm").mkdir(mode=0o1777)  # noqa: S108  (of the machine)
    # Where root makes a machine, its root is the host's to files such as /proc/sysrq-trigger.
    mount("proc", f"{folder}/proc", "proc", flags=_READ_ONLY | _NO_SUID | _NO_DEV | _NO_EXEC)
    os.chdir(folder)
    pivot_root(".", ".")  # the old root now lies on top of the new one
    if _LIBC.umount2(b".", _DETACH):
        raise JailError(f"umount: {os.strerror(ctypes.get_errno())}")
    os.chdir("/")


def _bind(outside: str, target: str, *, writable: bool) -> None:
    if Path(outside).is_dir():
        Path(target).mkdir(parents=True, exist_ok=True)
    else:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).touch()
    mount(outside, target, flags=_BIND | _RECURSIVE)
    if not writable:
        attributes = struct.pack("QQQQ", _READ_ONLY_ATTRIBUTES, 0, 0, 0)
        path = ctypes.c_char_p(os.fsencode(target))
        if _LIBC.syscall(_MOUNT_SETATTR, _AT_FDCWD, path, _AT_RECURSIVE, attributes, len(attributes)):
            reason = os.strerror(ctypes.get_errno())
            raise JailError(f"{target} cannot be made read-only: {reason} (Linux 5.12 is needed, or bubblewrap)")


def raise_loopback() -> None:
    """Bring the loopback device up: a new network namespace has it down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(control, _GET_FLAGS, request))[1]
        if not flags & _UP:
            fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sH14x", b"lo", flags | _UP))
