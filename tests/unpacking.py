"""Tars that tests made, unpacked."""

from __future__ import annotations

import tarfile
from pathlib import Path


def unpack_tar(path: Path, folder: Path) -> None:
    """Unpack a tar, by tarfile's careful way where this Python has it (since 3.11.4)."""
    careful = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(path) as tar:
        tar.extractall(folder, **careful)  # noqa: S202 - what it holds was made by a test
