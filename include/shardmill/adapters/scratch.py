"""Folders for unfinished files, removed by the next process where their own was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PREFIX = "shardmill-"
_HELD = ".held"
_UNLOCKED_SECONDS = 3600
"""A folder is locked and gets its name within milliseconds; one that has none after so long is nobody's, even where the
file system knows no locks on folders."""
_PATIENCE_SECONDS = 1.0


@contextmanager
def scratch_folder(prefix: str, place: Path | None = None) -> Iterator[Path]:
    """Lend a folder for unfinished files; what processes that were killed left beside it is removed.

    Args:
        place: the folder to make it in; None for the system's.
    """
    parent = place or Path(tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(parent)
    with ExitStack() as making:
        making.enter_context(_locked(parent, fcntl.LOCK_SH, _PATIENCE_SECONDS))
        unlocked = Path(tempfile.mkdtemp(prefix=f".{PREFIX}{prefix}", dir=parent))
        folder = parent / unlocked.name.removeprefix(".")
        try:
            with (unlocked / _HELD).open("w") as held:
                fcntl.flock(held, fcntl.LOCK_EX)  # the kernel gives it back, however this process ends
                unlocked.rename(folder)  # only now do others see it
                making.close()
                yield folder
        finally:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder, first its name: whoever is killed meanwhile has perhaps removed the lock, but not the rest."""
    unlocked = folder.with_name(f".{folder.name}")
    with suppress(OSError):  # not there, or another file system's own rules: then it goes as it is
        folder.rename(unlocked)
    shutil.rmtree(unlocked, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(parent: Path, kind: int, patience: float) -> Iterator[bool]:
    """Lock the folder that scratch folders are made in: shared to make one, alone to say that none is being made."""
    give_up = time.monotonic() + patience
    number = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        got = _try_lock(number, kind)
        while not got and time.monotonic() < give_up:
            time.sleep(0.01)
            got = _try_lock(number, kind)
        yield got
    finally:
        os.close(number)


def _try_lock(number: int, kind: int) -> bool:
    try:
        fcntl.flock(number, kind | fcntl.LOCK_NB)
    except OSError:  # held by another; or a file system that knows no locks on folders
        return False
    return True


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            with (folder / _HELD).open() as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder)
        except OSError:  # in use; or of somebody else, or not locked yet, or gone
            continue
    with _locked(parent, fcntl.LOCK_EX, patience=0) as nobody_makes_one:
        for folder in parent.glob(f".{PREFIX}*"):
            _sweep_unlocked(folder, time.time() - (0 if nobody_makes_one else _UNLOCKED_SECONDS))


def _sweep_unlocked(folder: Path, made_before: float) -> None:
    """Remove what a process left that was killed before it locked its folder, or while it removed it."""
    try:
        status = folder.lstat()
    except OSError:  # gone
        return
    if status.st_uid == os.geteuid() and status.st_mtime < made_before:
        shutil.rmtree(folder, ignore_errors=True)
