from __future__ import annotations

from pathlib import Path

import pytest

from shardmill.adapters.store import Store, StoreSettings
from shardmill.laptop.history import Mirror


@pytest.fixture
def places(tmp_path: Path) -> tuple[Store, Path]:
    (tmp_path / "logs").mkdir()
    return Store((tmp_path / "lake").as_uri(), StoreSettings(), create=True), tmp_path / "logs"


def copies(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_event_logs_are_fetched_as_they_grow_and_end(places: tuple[Store, Path]) -> None:
    lake, folder = places
    mirror = Mirror(lake, folder)
    lake.put("spark-events/app-1.inprogress", b"start")
    lake.put("spark-events/eventlog_v2_app-2/events_1_app-2", b"rolled")
    lake.put("runs/r/report.html", b"no event log")
    mirror.look()
    assert copies(folder) == {"app-1.inprogress": b"start", "eventlog_v2_app-2/events_1_app-2": b"rolled"}
    lake.put("spark-events/app-1", b"start, end")
    lake.delete(["spark-events/app-1.inprogress"])
    mirror.look()
    assert copies(folder) == {"app-1": b"start, end", "eventlog_v2_app-2/events_1_app-2": b"rolled"}


def test_what_has_not_changed_is_not_fetched_again(places: tuple[Store, Path]) -> None:
    lake, folder = places
    mirror = Mirror(lake, folder)
    lake.put("spark-events/app-1", b"start")
    mirror.look()
    (folder / "app-1").write_bytes(b"seen by nobody else")
    mirror.look()
    assert copies(folder) == {"app-1": b"seen by nobody else"}
