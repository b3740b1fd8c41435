"""What a program in a sandbox sees of this machine's files: what this Python needs in order to run, and no more."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_SYSTEM = tuple(Path("/", name) for name in ("usr", "lib", "lib32", "lib64", "bin", "sbin"))
_LOADER_CACHE = Path("/etc/ld.so.cache")  # without it libraries outside the loader's own folders would not be found
_PACKAGE = Path(__file__).absolute().parents[2]
_SIGNAL_BASE = 128
_RUN_MODULE = (
    "import os, runpy, sys; sys.path[:0] = sys.argv[1].split(os.pathsep); del sys.argv[:2]; "
    "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


@dataclass(frozen=True)
class View:
    """Files and folders that show inside at their own paths, and symbolic links beside them."""

    binds: tuple[tuple[str, str], ...]
    """The real path outside, and the path inside; parents before what is below them."""
    links: tuple[tuple[str, str], ...]
    """The path inside, and the target."""


def program_view() -> View:
    """Collect what this interpreter, its packages and the system's programs are made of."""
    links = {str(path): str(path.readlink()) for path in _SYSTEM if path.is_symlink()}
    hops, interpreter = _interpreter()
    wanted = {path for path in _SYSTEM if str(path) not in links}
    wanted |= {_LOADER_CACHE, interpreter, _PACKAGE, *_library_paths(), *_foreign_entries()}
    binds: dict[str, str] = {}
    for path in sorted(wanted | {path.resolve() for path in wanted}):
        if path.exists() and not _is_below(path, [*binds, *links]):
            binds[str(path)] = str(path.resolve())
    links |= {path: target for path, target in hops.items() if not _is_below(Path(path), [*binds, *links])}
    return View(tuple((outside, inside) for inside, outside in binds.items()), tuple(links.items()))


def module_command(module: str, *arguments: str) -> list[str]:
    """Give the arguments that run a module by this interpreter, isolated from the caller's variables and folders."""
    if _is_installed():
        return [sys.executable, "-I", "-m", module, *arguments]
    own = [sys.prefix, sys.base_prefix]
    places = [_PACKAGE.parent, *(path for path in _foreign_entries() if not _is_below(path, own))]
    return [sys.executable, "-I", "-c", _RUN_MODULE, os.pathsep.join(map(str, places)), module, *arguments]


def ending_signal(exit_status: int) -> int | None:
    """Give the signal that ended the program inside; None where it ended by itself.

    Args:
        exit_status: of the command, as ``Popen.returncode`` has it. Bubblewrap adds 128 to the signal, unshare ends by
            the signal itself. A program that exits with 129 or more by itself looks the same.
    """
    if exit_status < 0:
        return -exit_status
    return exit_status - _SIGNAL_BASE if exit_status > _SIGNAL_BASE else None


def _is_installed() -> bool:
    """See whether this environment itself leads to the package. A cluster gets the package as a zip beside it."""
    return _PACKAGE.is_dir() and any(Path(sysconfig.get_path("purelib")).glob("shardmill-*.dist-info"))


def _interpreter() -> tuple[dict[str, str], Path]:
    """Follow the links to the interpreter: each with its target, and the program itself."""
    hops: dict[str, str] = {}
    path = Path(sys.executable)
    while path.is_symlink() and str(path) not in hops:
        hops[str(path)] = str(path.readlink())
        path = Path(os.path.normpath(path.parent / path.readlink()))
    return hops, Path(sys.executable).resolve()


def _library_paths() -> Iterator[Path]:
    """Yield the folders of this environment and of the Python below it."""
    yield Path(sys.prefix)
    for prefix in (sys.base_prefix, sys.base_exec_prefix):
        yield from (Path(prefix, name) for name in ("lib", sys.platlibdir))
    yield from (Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))


def _foreign_entries() -> Iterator[Path]:
    """Yield what else modules come from: archives, and folders that are made for packages.

    Other folders on ``sys.path`` stay outside: the first is often the folder in which a program was started, a home.
    """
    for path in map(Path, filter(None, sys.path)):
        if path.is_file() or path.name in ("site-packages", "dist-packages"):
            yield path.absolute()


def _is_below(path: Path, folders: Iterable[str]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)
