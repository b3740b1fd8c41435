"""Fixtures that all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardmill.adapters.store import Store

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture
def lake(tmp_path: Path) -> Store:
    """An empty lake on disk."""
    return Store(f"file://{tmp_path / 'lake'}", create=True)


@pytest.fixture(scope="session")
def real_videos() -> Path:
    """The folder of real shards, where a checkout has one beside it."""
    folder = PROJECT.parent / "shared" / "data"
    if not (folder / "raw").is_dir():
        pytest.skip(f"the real videos are not there: {folder}")
    return folder
