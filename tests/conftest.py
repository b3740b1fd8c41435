"""Fixtures that all tests share."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from shardmill.adapters.roots import LAKES, SOURCES
from shardmill.adapters.store import Store

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs may read and write anywhere; a test about roots names its own."""
    for variable in (SOURCES, LAKES):
        monkeypatch.setenv(variable, "file:/// s3:// gs://")


@pytest.fixture
def lake(tmp_path: Path) -> Store:
    """An empty lake on disk."""
    return Store(f"file://{tmp_path / 'lake'}", create=True)


@pytest.fixture(scope="session")
def real_videos() -> Path:
    """The folder of real shards, where a checkout has one beside it."""
    folder = Path(os.environ.get("SHARDMILL_REAL_VIDEOS", PROJECT.parent / "shared" / "data"))
    if not (folder / "raw").is_dir():
        pytest.skip(f"the real videos are not there: {folder}")
    return folder


@pytest.fixture(scope="session")
def run_ffmpeg() -> Callable[..., None]:
    """Runs the ffmpeg of the wheel; a test makes its small videos by it."""
    import imageio_ffmpeg

    def run(*arguments: str | Path) -> None:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *map(str, arguments)]
        subprocess.run(command, check=True, timeout=240)

    return run
