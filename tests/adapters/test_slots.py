"""The outside of the sandbox: nothing that comes out of it is believed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shardmill.adapters.process import list_processes, process_tree, read_process, start_child
from shardmill.adapters.sandbox import Sandbox, SandboxError, find_sandbox
from shardmill.adapters.video import slots
from shardmill.adapters.video.error import SlotError, StoppedError, VideoError
from shardmill.adapters.video.pieces import Pieces
from shardmill.adapters.video.slots import Slot, time_limit
from shardmill.specs.recipes import SplitRecipe

RECIPE = SplitRecipe(width=64, height=32, preset="ultrafast")


@pytest.fixture(scope="module")
def film(run_ffmpeg: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds: two clips."""
    path = tmp_path_factory.mktemp("film") / "v.mp4"
    run_ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=10:d=3", "-c:v", "libx264", "-pix_fmt", "yuv420p", path)
    return path


def make_long_film(run_ffmpeg: Callable[..., None], folder: Path, pixels: str) -> Path:
    source = ("-f", "lavfi", "-i", "testsrc2=s=640x360:r=30:d=40", "-c:v", "libx264", "-preset", "ultrafast")
    run_ffmpeg(*source, "-pix_fmt", pixels, folder / "v.mp4")
    return folder / "v.mp4"


@pytest.fixture(scope="module")
def long_film(run_ffmpeg: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Takes a while, and ffmpeg: full colour is not encoded in the process itself."""
    return make_long_film(run_ffmpeg, tmp_path_factory.mktemp("film"), "yuv444p")


@pytest.fixture(scope="module")
def long_plain_film(run_ffmpeg: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Takes a while, and is encoded in the process itself."""
    return make_long_film(run_ffmpeg, tmp_path_factory.mktemp("film"), "yuv420p")


def cut(slot: Slot, film: Path, to: Path, **options: object) -> Pieces:
    video = to.with_suffix(".video")
    shutil.copy(film, video)
    return slot.cut(video, name="v.mp4", to=to, **options)


def test_one_process_cuts_video_after_video_and_leaves_its_clips_alone(tmp_path, film):
    (tmp_path / "text").write_text("no video")
    with Slot(RECIPE, tmp_path / "slot") as slot:
        first = cut(slot, film, tmp_path / "a")
        pid = slot._process.pid
        with pytest.raises(VideoError) as caught:
            cut(slot, tmp_path / "text", tmp_path / "b")
        second = cut(slot, film, tmp_path / "c")
        assert slot._process.pid == pid
    assert caught.value.reason == "not_a_video"
    assert (first.numbers, first.frames, first.seconds, first.copied) == ((0, 1), 30, 3.0, False)
    assert [first.read(number) for number in first.numbers] == [second.read(number) for number in second.numbers]
    assert first.size == sum(len(first.read(number)) for number in first.numbers)
    assert first.facts["format"]["filename"] == "v.mp4"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c", "text"]
    first.remove()
    assert not (tmp_path / "a").exists()


def ffmpeg_of(slot: Slot) -> int:
    """Wait for the ffmpeg below a slot."""
    return _wait_for(slot, lambda pids: [pid for pid in pids if b"-nostdin" in _command_of(pid)])


def child_of(slot: Slot) -> int:
    """Wait for the process that a slot forks for a video: the last of those with its command line."""
    return _wait_for(slot, lambda pids: _forked([pid for pid in pids if slots.INSIDE.encode() in _command_of(pid)]))


def _forked(pids: list[int]) -> list[int]:
    parents = {pid: info.parent for pid in pids if (info := read_process(pid)) is not None}
    return [pid for pid in pids if _command_of(parents.get(pid, 0)) == _command_of(pid)]


def _wait_for(slot: Slot, find: Callable[[list[int]], list[int]]) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if slot._process is not None and (found := find([info.pid for info in process_tree(slot._process.pid)])):
            return found[-1]
        time.sleep(0.01)
    raise AssertionError("nothing was started")


def _command_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


@pytest.mark.parametrize("killed", ["ffmpeg", "child", "sandbox"])
def test_a_killed_process_costs_its_video_and_not_the_next(tmp_path, film, long_film, long_plain_film, killed):
    with Slot(RECIPE, tmp_path / "slot") as slot:
        slot._ready()

        def kill() -> None:
            victim = ffmpeg_of(slot) if killed == "ffmpeg" else child_of(slot)
            os.kill(slot._process.pid if killed == "sandbox" else victim, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(VideoError) as caught:
            cut(slot, long_film if killed == "ffmpeg" else long_plain_film, tmp_path / "a")
        killer.join()
        assert cut(slot, film, tmp_path / "b").numbers == (0, 1)
    assert caught.value.reason == "killed"


@pytest.mark.parametrize("kind", ["long_film", "long_plain_film"])
def test_a_video_that_takes_too_long_is_given_up_in_time(tmp_path, film, request, kind):
    with Slot(SplitRecipe(preset="slow"), tmp_path / "slot") as slot:
        slot._ready()
        started = time.monotonic()
        with pytest.raises(VideoError) as caught:
            cut(slot, request.getfixturevalue(kind), tmp_path / "a", seconds=0.05)
        assert time.monotonic() - started < 30
        assert cut(slot, film, tmp_path / "b").numbers == (0, 1)
    assert caught.value.reason == "time_out"


def test_a_slot_that_is_killed_stops_at_once_and_leaves_no_process(tmp_path, long_film):
    before = {info.pid for info in list_processes()}
    slot = Slot(RECIPE, tmp_path / "slot")

    def kill() -> None:
        ffmpeg_of(slot)
        slot.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with slot, pytest.raises(StoppedError):
        cut(slot, long_film, tmp_path / "a")
    killer.join()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (left := _ours(before, tmp_path)):
        time.sleep(0.05)
    assert left == []
    assert not (tmp_path / "slot").exists()


def _ours(before: set[int], folder: Path) -> list[int]:
    new = [info.pid for info in list_processes() if info.pid not in before]
    return [pid for pid in new if any(bytes(folder) in argument for argument in _command_of(pid))]


def pretend(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Have the process in the sandbox be this program, with `ask` for what is asked and `say` for its answer."""
    beginning = (
        "import json, os, sys\nprint('ready', flush=True)\nask = lambda: json.loads(sys.stdin.readline())\n"
        "def say(status, **answer): print(json.dumps({'status': status, 'said': json.dumps(answer)}), flush=True)\n"
    )
    monkeypatch.setattr(slots, "module_command", lambda module: [sys.executable, "-I", "-c", beginning + program])


def test_a_process_that_does_not_start_is_an_error_with_its_words(tmp_path, film, monkeypatch):
    program = "raise SystemExit('no libav here')"
    monkeypatch.setattr(slots, "module_command", lambda module: [sys.executable, "-I", "-c", program])
    with Slot(RECIPE, tmp_path / "slot") as slot, pytest.raises(SlotError, match="did not start: no libav here"):
        cut(slot, film, tmp_path / "a")


def test_a_sandbox_that_was_only_likely_is_left_where_the_trial_finds_another(tmp_path, film, monkeypatch):
    started = recorded(monkeypatch)
    other = Sandbox("none", program="another")
    monkeypatch.setattr(slots, "likely_sandbox", lambda: other)
    with Slot(RECIPE, tmp_path / "slot") as slot:
        assert cut(slot, film, tmp_path / "a").numbers == (0, 1)
        early, used = started
        assert early.returncode is not None
        assert slot._process is used
        assert find_sandbox() != other


def test_where_no_sandbox_is_found_nothing_that_was_started_stays(tmp_path, film, monkeypatch):
    started = recorded(monkeypatch)

    def refuse() -> Sandbox:
        raise SandboxError("none here")

    monkeypatch.setattr(slots, "likely_sandbox", find_sandbox)
    monkeypatch.setattr(slots, "find_sandbox", refuse)
    with Slot(RECIPE, tmp_path / "slot") as slot:
        for _ in range(2):  # a video is not handed to what was started for the first one either
            with pytest.raises(SandboxError, match="none here"):
                cut(slot, film, tmp_path / "a")
        assert len(started) == 2
        assert all(process.returncode is not None for process in started)


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Have what slots start noted."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*args: object, **options: object) -> subprocess.Popen[bytes]:
        started.append(start_child(*args, **options))
        return started[-1]

    monkeypatch.setattr(slots, "start_child", start)
    return started


@pytest.mark.parametrize(
    "program",
    [
        "ask(); say(0, clips=[1, 0])",
        "ask(); say(0, clips=[])",
        "ask(); say(0, clips='../../etc/passwd')",
        "ask(); say(0, clips=[0], more=1)",
        "ask(); print('[]', flush=True)",
        "ask(); print('no json', flush=True)",
        "ask(); say(1)",
    ],
)
def test_an_answer_that_makes_no_sense_costs_its_video_alone(tmp_path, film, monkeypatch, program):
    with Slot(RECIPE, tmp_path / "slot") as slot:
        with monkeypatch.context() as patch:
            pretend(patch, program)
            with pytest.raises(VideoError) as caught:
                cut(slot, film, tmp_path / "a")
            slot._end()
        assert caught.value.reason == "crashed"
        assert cut(slot, film, tmp_path / "b").numbers == (0, 1)


def test_a_machine_that_fails_is_an_error_and_no_videos_fault(tmp_path, film, monkeypatch):
    pretend(monkeypatch, "ask(); say(0, failed='No space left on device')")
    with Slot(RECIPE, tmp_path / "slot") as slot, pytest.raises(SlotError, match="No space left on device"):
        cut(slot, film, tmp_path / "a")


@pytest.mark.parametrize(
    ("signal_number", "reason"), [(signal.SIGSEGV, "damaged"), (signal.SIGABRT, "damaged"), (signal.SIGKILL, "killed")]
)
def test_a_crash_of_the_decoder_is_the_videos_fault_and_a_kill_may_pass(
    tmp_path, film, monkeypatch, signal_number, reason
):
    pretend(monkeypatch, f"ask(); say({-signal_number})\nsys.stdin.readline()")
    with Slot(RECIPE, tmp_path / "slot") as slot, pytest.raises(VideoError) as caught:
        cut(slot, film, tmp_path / "a")
    assert caught.value.reason == reason


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_clip_that_is_no_plain_file_is_not_read(tmp_path, film, monkeypatch, kind):
    making = {
        "link": f"os.symlink({str(tmp_path / 'secret')!r}, clip)",
        "pipe": "os.mkfifo(clip)",
        "folder": "os.mkdir(clip)",
    }[kind]
    (tmp_path / "secret").write_text("secret")
    pretend(
        monkeypatch,
        "folder = ask()['folder']; os.mkdir(folder + '/clips'); clip = folder + '/clips/000000.mp4'\n"
        f"{making}; say(0, clips=[0], frames=1, seconds=1.0)\nsys.stdin.readline()",
    )
    with (
        Slot(RECIPE, tmp_path / "slot") as slot,
        pytest.raises(VideoError, match="something else than clips") as caught,
    ):
        cut(slot, film, tmp_path / "a")
    assert caught.value.reason == "crashed"


def test_clips_that_are_too_large_are_not_read(tmp_path, film, monkeypatch):
    pretend(
        monkeypatch,
        "folder = ask()['folder']; os.mkdir(folder + '/clips')\n"
        "os.truncate(os.open(folder + '/clips/000000.mp4', os.O_CREAT | os.O_WRONLY), 2**31)\n"
        "say(0, clips=[0], frames=1, seconds=1.0)\nsys.stdin.readline()",
    )
    with Slot(RECIPE, tmp_path / "slot") as slot, pytest.raises(VideoError, match="expected a file of at most"):
        cut(slot, film, tmp_path / "a")


def test_a_folder_that_leads_elsewhere_is_not_taken(tmp_path, film, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    pretend(
        monkeypatch,
        f"folder = ask()['folder']; os.symlink({str(tmp_path / 'elsewhere')!r}, folder + '/clips')\n"
        "say(0, clips=[0], frames=1, seconds=1.0)\nsys.stdin.readline()",
    )
    with Slot(RECIPE, tmp_path / "slot") as slot, pytest.raises(VideoError, match="expected the clips in a folder"):
        cut(slot, film, tmp_path / "a")


def test_a_silent_process_is_given_up_behind_its_time(tmp_path, film, monkeypatch):
    monkeypatch.setattr(slots, "_GRACE_SECONDS", 0.2)
    pretend(monkeypatch, "ask(); import time; time.sleep(600)")
    with Slot(RECIPE, tmp_path / "slot") as slot, pytest.raises(VideoError) as caught:
        cut(slot, film, tmp_path / "a", seconds=0.3)
    assert caught.value.reason == "time_out"


def test_the_time_limit_grows_with_the_file():
    assert time_limit(0) == 120
    assert time_limit(28_000_000) == 960
