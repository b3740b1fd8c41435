"""Folders for unfinished files, removed by the next process where their own was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "shardmill-"
_HELD = ".held"
_UNLOCKED_SECONDS = 3600
"""A folder is locked and gets its name within milliseconds; one that has none after so long is nobody's."""


@contextmanager
def scratch_folder(prefix: str, place: Path | None = None) -> Iterator[Path]:
    """Lend a folder for unfinished files; what processes that were killed left beside it is removed.

    Args:
        place: the folder to make it in; None for the system's.
    """
    parent = place or Path(tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(parent)
    unlocked = Path(tempfile.mkdtemp(prefix=f".{PREFIX}{prefix}", dir=parent))
    folder = parent / unlocked.name.removeprefix(".")
    try:
        with (unlocked / _HELD).open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)  # the kernel gives it back, however this process ends
            unlocked.rename(folder)  # only now do others see it
            yield folder
    finally:
        shutil.rmtree(unlocked, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            with (folder / _HELD).open() as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # in use; or of somebody else, or not locked yet, or gone
            continue
    for folder in parent.glob(f".{PREFIX}*"):
        try:
            status = folder.lstat()
        except OSError:  # gone
            continue
        if status.st_uid == os.geteuid() and status.st_mtime < time.time() - _UNLOCKED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
