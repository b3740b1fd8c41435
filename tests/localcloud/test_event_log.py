from __future__ import annotations

from pathlib import Path

import pytest

from shardmill.adapters.store import StoreSettings
from shardmill.localcloud import event_log
from shardmill.localcloud.event_log import EventLog


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Where Spark writes, and where the log belongs."""
    for name in ("events", "lake"):
        (tmp_path / name).mkdir()
    return tmp_path / "events", tmp_path / "lake"


def log(folders: tuple[Path, Path]) -> EventLog:
    return EventLog(folders[1].as_uri(), folders[0], StoreSettings.from_environment({}))


def kept(folders: tuple[Path, Path]) -> dict[str, str]:
    return {str(path.relative_to(folders[1])): path.read_text() for path in folders[1].rglob("*") if path.is_file()}


def test_a_log_that_grows_is_kept_and_replaced_by_the_finished_one(folders: tuple[Path, Path]) -> None:
    events, _ = folders
    found = log(folders)
    growing = events / "app-1.inprogress"
    growing.write_text("start")
    (events / ".app-1.inprogress.crc").write_text("checksum")
    found.publish(ended=False)
    assert kept(folders) == {"app-1.inprogress": "start"}
    growing.write_text("start, task")
    found.publish(ended=False)
    assert kept(folders) == {"app-1.inprogress": "start, task"}
    growing.write_text("start, task, end")
    growing.rename(events / "app-1")
    found.publish(ended=True)
    assert kept(folders) == {"app-1": "start, task, end"}


def test_the_log_of_a_job_that_was_killed_stays_unfinished(folders: tuple[Path, Path]) -> None:
    (folders[0] / "app-1.inprogress").write_text("start")
    found = log(folders)
    found.publish(ended=False)
    found.publish(ended=True)
    assert kept(folders) == {"app-1.inprogress": "start"}


def test_a_large_log_is_kept_at_the_end_only(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "_LARGEST_UNFINISHED", 4)
    rolled = folders[0] / "eventlog_v2_app-1"
    rolled.mkdir()
    (rolled / "events_1_app-1").write_text("12345")
    found = log(folders)
    found.publish(ended=False)
    assert kept(folders) == {}
    found.publish(ended=True)
    assert kept(folders) == {"eventlog_v2_app-1/events_1_app-1": "12345"}
