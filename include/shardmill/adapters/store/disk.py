"""What a folder on disk is asked beyond what obstore does there."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

SCRATCH = "_scratch"
"""Folder of unfinished files, below the root of a lake on disk."""
_LOCK = "_swap.lock"


def file_of(folder: Path, key: str) -> Path:
    """Give the file of a key. Raises ValueError where the key leads out of the folder; obstore looks only itself."""
    if any(part in ("", ".", "..") for part in key.split("/")):
        raise ValueError(f"expected a key below {folder}, found {key!r}")
    return folder / key


def link_new(path: Path, target: Path) -> bool | None:
    """Give a finished file its name, unless that is taken; nothing is copied.

    Returns:
        Whether the name was free; None where the file lies on another file system.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except FileExistsError:
        return False
    except OSError:
        return None
    return True


def swap(folder: Path, key: str, content: bytes, matches: Callable[[], bool]) -> bool:
    """Replace a file if ``matches`` says so, with no other swap in between. Returns whether it was replaced."""
    scratch = folder / SCRATCH
    scratch.mkdir(parents=True, exist_ok=True)
    with (scratch / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not matches():
            return False
        with tempfile.NamedTemporaryFile(dir=scratch, delete=False) as file:
            file.write(content)
        target = file_of(folder, key)
        target.parent.mkdir(parents=True, exist_ok=True)
        Path(file.name).chmod(0o644)
        Path(file.name).replace(target)
        return True
