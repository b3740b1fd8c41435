from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from shardmill.adapters.video.pieces import Pieces
from shardmill.jobs.split.cases import Case, Position
from shardmill.jobs.split.progress import SECONDS_BETWEEN, Progress
from shardmill.jobs.split.window import GivenUpError, Window
from shardmill.specs.manifest import Reject, Video


def case(index: int, size: int = 10, refused: Reject | None = None) -> Case:
    return Case(index, f"k{index}", f"k{index}.mp4", Position(), b"", Path(f"{index}.video"), size, refused)


def pieces(size: int) -> Pieces:
    return Pieces(Path("nowhere"), (0,), 1, 1.0, size=size)


def in_background(work) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_the_largest_case_that_waits_is_cut_first():
    window = Window(1000)
    for index, size in enumerate([10, 30, 20, 30]):
        window.reserve(size)
        window.put(case(index, size))
    window.close()
    assert [window.take().index for _ in range(4)] == [1, 3, 2, 0]
    assert window.take() is None


def test_results_come_in_the_order_of_the_shard_whatever_was_ready_first():
    window = Window(1000)
    refused = Reject(key="k1", reason="no_video", message="m")
    cases = [case(0), case(1, 0, refused), case(2)]
    for each in cases:
        window.put(each)
    window.close()
    window.finish(cases[2], pieces(1))
    window.finish(cases[0], pieces(1))
    assert [found.index for found, _ in window.results()] == [0, 1, 2]


def test_the_reader_waits_until_what_lies_in_scratch_is_small_enough():
    window = Window(100)
    window.reserve(60)
    window.put(first := case(0, 60))
    window.close()
    thread = in_background(lambda: window.reserve(60))
    thread.join(0.1)
    assert thread.is_alive(), "60 + 60 bytes are too many"
    window.finish(first, pieces(50))
    thread.join(0.1)
    assert thread.is_alive(), "the clips lie there still"
    list(window.results())
    thread.join(5)
    assert not thread.is_alive()


def test_a_case_that_alone_is_larger_passes_alone():
    window = Window(100)
    window.reserve(1000)

    def reserve() -> None:
        with pytest.raises(GivenUpError):
            window.reserve(1)

    thread = in_background(reserve)
    thread.join(0.1)
    assert thread.is_alive()
    window.fail(GivenUpError())
    thread.join(5)


def test_tiny_cases_do_not_pile_up(monkeypatch):
    monkeypatch.setattr("shardmill.jobs.split.window.MOST_CASES", 2)
    window = Window(1000)
    refused = Reject(key="k", reason="no_video", message="m")
    window.put(case(0, 0, refused))
    window.put(case(1, 0, refused))
    thread = in_background(lambda: window.put(case(2, 0, refused)))
    thread.join(0.1)
    assert thread.is_alive()
    next(window.results())
    thread.join(5)
    assert not thread.is_alive()


def test_an_error_anywhere_wakes_everybody_and_is_raised_where_the_results_are_taken():
    window = Window(100)
    seen: list[object] = []

    def reserve() -> None:
        window.reserve(10)
        with pytest.raises(GivenUpError):
            window.reserve(100)
        seen.append("reader")

    threads = [in_background(reserve), in_background(lambda: seen.append(window.take()))]
    time.sleep(0.05)
    window.fail(RuntimeError("the disk is full"))
    for thread in threads:
        thread.join(5)
    assert sorted(map(str, seen)) == ["None", "reader"]
    with pytest.raises(RuntimeError, match="the disk is full"):
        next(window.results())


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_says_videos_clips_megabytes_pace_and_what_is_left_every_ten_seconds():
    clock, lines = Clock(), list[str]()
    progress = Progress(7, 100_000_000, lines.append, clock)
    progress.add(Video(key="a", clips=50), 0)
    clock.now = SECONDS_BETWEEN
    progress.add(Reject(key="b", reason="damaged", message="m"), 10_000_000)
    progress.add(Video(key="c", clips=50), 20_000_000)
    clock.now = 2 * SECONDS_BETWEEN
    progress.add(Video(key="d", clips=20), 20_000_000)
    assert lines == [
        "shard 000007: 1 videos (1 refused), 50 clips, 10 of 100 MB, 5.0 clips/s, 1 min 30 s left",
        "shard 000007: 3 videos (1 refused), 120 clips, 20 of 100 MB, 6.0 clips/s, 1 min 20 s left",
    ]


def test_what_an_earlier_try_did_does_not_count_for_the_pace():
    clock, lines = Clock(), list[str]()
    progress = Progress(7, 100_000_000, lines.append, clock)
    progress.add(Video(key="a", clips=1), 80_000_000)
    clock.now = SECONDS_BETWEEN
    progress.add(Video(key="b", clips=1), 90_000_000)
    assert lines[-1].endswith("90 of 100 MB, 0.2 clips/s, 10 s left")
