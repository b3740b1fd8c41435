"""The files of a machine: a root of its own in a scratch folder, and the host's system behind it, to be read only.

Folders in which scripts put things (``/etc``, ``/usr/bin``, ``/usr/local/bin``, …) are the machine's own: the programs
of the host show there as links. What the links lead to is bound read-only at ``/.host``.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from virtualenv.seed.wheels.embed import get_embed_wheel

from shardmill.adapters.sandbox.view import View
from shardmill.localcloud.machine_requests import SHIMS

HOST = "/.host"
SHIM = "/usr/libexec/machine-shim"
PYTHON_HOME = "/opt/python3.11"
"""A Python environment of the machine's own, so that what a script installs stays in it."""
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64")
_LISTED = ("usr", "usr/bin", "usr/sbin", "usr/libexec", "usr/local", "usr/local/bin", "usr/local/sbin", "usr/local/lib")
"""Folders that the machine has for its own, made of links to each entry of the host's; all else is one link."""
_OWN = ("home", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp", "var/log", "var/tmp", "var/lib")
_DEVICES = ("null", "zero", "full", "urandom", "random")


@dataclass(frozen=True)
class MachineRoot:
    """A prepared root."""

    folder: Path
    """Becomes ``/``; to be written by the machine."""
    binds: tuple[tuple[str, str], ...]
    """What is bound into it, read-only: the path outside, and the path inside."""
    devices: tuple[str, ...]
    python: str
    """The interpreter, as seen from inside."""

    def outside(self, inside: str) -> Path:
        """Give the path by which a file of the machine is found from outside."""
        return self.folder / inside.lstrip("/")


def make_root(folder: Path, view: View) -> MachineRoot:
    """Prepare the root of a machine in an empty folder.

    Args:
        folder: made if it is not there.
        view: what this Python is made of.
    """
    for name in _OWN:
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "tmp").chmod(0o1777)
    binds: dict[str, str] = dict(_mirror_system(folder))
    binds |= {inside: outside for outside, inside in view.binds if not _is_system(inside)}
    for path, target in view.links:
        if not _is_system(path) and not Path(path).is_relative_to("/etc"):
            _link(folder / path.lstrip("/"), target)
    _copy_public("/etc", str(folder / "etc"))
    python = _inside(Path(sys.executable).resolve())
    _add_python(folder, python)
    _add_shims(folder, python)
    devices = tuple(f"/dev/{name}" for name in _DEVICES if Path("/dev", name).exists())
    return MachineRoot(folder, tuple((outside, inside) for inside, outside in binds.items()), devices, python)


def _is_system(path: str) -> bool:
    return Path(path).parts[1] in ("usr", "etc", *_SYSTEM)


def _inside(path: Path) -> str:
    """Give the path inside of a file of the host, past what the machine has put in its place."""
    return f"{HOST}{path}" if _is_system(str(path)) else str(path)


def _mirror_system(folder: Path) -> Iterator[tuple[str, str]]:
    """Make the machine's own folders of links; yield what must be bound: the path inside, and the path outside."""
    yield f"{HOST}/usr", "/usr"
    for name in _LISTED:
        _mirror(Path("/", name), folder / name)
    for name in _SYSTEM:
        path = Path("/", name)
        if path.is_symlink():
            _link(folder / name, str(path.readlink()))
        elif path.is_dir():
            yield f"{HOST}/{name}", f"/{name}"
            _mirror(path, folder / name)


def _mirror(source: Path, target: Path) -> None:
    """Make a folder in which each entry is a link to the host's."""
    target.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        for name in os.listdir(source):  # noqa: PTH208  (thousands of them, for each machine)
            if f"{source}/{name}".lstrip("/") not in _LISTED:
                os.symlink(f"{HOST}{source}/{name}", f"{target}/{name}")  # noqa: PTH211


def _link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _copy_public(source: str, target: str) -> None:
    """Copy what anybody may read: a machine's scripts are not to see the host's secrets."""
    Path(target).mkdir(exist_ok=True)
    with os.scandir(source) as entries:
        for entry in entries:
            copy = f"{target}/{entry.name}"
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), copy)  # noqa: PTH115, PTH211
            elif not entry.stat().st_mode & stat.S_IROTH:
                continue
            elif entry.is_dir():
                _copy_public(entry.path, copy)
            elif entry.is_file():
                shutil.copyfile(entry.path, copy)


def _program(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)  # else what the link leads to would be written
    path.write_text(text)
    path.chmod(0o755)


def _add_python(folder: Path, python: str) -> None:
    """Give the machine a ``python3.11`` whose packages are its own: none but pip."""
    home = folder / PYTHON_HOME.lstrip("/")
    packages = home / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    _link(home / "bin" / "python3.11", python)
    base = Path(python).parent
    (home / "pyvenv.cfg").write_text(f"home = {base}\ninclude-system-site-packages = false\n")
    # Of virtualenv, for not every Python of a system has a pip or ensurepip. pip runs from its wheel.
    bundled = get_embed_wheel("pip", "3.11")
    if bundled is None:
        raise FileNotFoundError("virtualenv brings no pip for Python 3.11: run the set-up again")
    wheel = shutil.copy(bundled.path, home / "lib")
    (packages / "pip.pth").write_text(f"{PYTHON_HOME}/lib/{Path(wheel).name}\n")
    _program(folder / "usr/bin/python3.11", f'#!/bin/sh\nexec {PYTHON_HOME}/bin/python3.11 "$@"\n')
    if not (folder / "usr/bin/python3").is_symlink():
        _link(folder / "usr/bin/python3", python)


def _add_shims(folder: Path, python: str) -> None:
    """Put the machine's own programs before, and in the place of, those that would change a system."""
    script = Path(__file__).with_name("machine_shim.py").read_text()
    (folder / f"{SHIM}.py".lstrip("/")).write_text(script)
    _program(folder / SHIM.lstrip("/"), f'#!/bin/sh\nexec "{python}" -I -S {SHIM}.py "$0" "$@"\n')
    places = [name for name in ("usr/bin", "usr/sbin", "bin", "sbin") if not (folder / name).is_symlink()]
    for place in places:
        for name in SHIMS:
            _link(folder / place / name, SHIM)


def copy_script(root: MachineRoot, script: Path, number: int) -> str:
    """Put a script into the machine; give its path there."""
    name = f"/var/lib/machine/{number:02d}/{script.name}"
    target = root.outside(name)
    target.parent.mkdir(parents=True)
    shutil.copyfile(script, target)
    target.chmod(0o755)
    return name


def environment_inside(asked: Mapping[str, str], proxy: str = "") -> dict[str, str]:
    """Give the variables of a script in a machine: those asked for, and what a login would set."""
    values = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
    }
    if proxy:
        values |= dict.fromkeys(("https_proxy", "HTTPS_PROXY"), proxy)
        values |= dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost")
    return values | dict(asked)
