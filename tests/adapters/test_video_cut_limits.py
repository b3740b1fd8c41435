"""What a video may use up, and what becomes of one that wants more."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import av
import pytest

from shardmill.adapters.video import cut as cutting
from shardmill.adapters.video import running as runs
from shardmill.adapters.video.cut import cut_video
from shardmill.adapters.video.error import VideoError
from shardmill.adapters.video.running import running
from shardmill.specs.recipes import SplitRecipe

RECIPE = SplitRecipe(width=64, height=32, preset="ultrafast")
TESTSRC = ("-f", "lavfi", "-i")
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


def refusal(source: Path, folder: Path) -> VideoError:
    folder.mkdir()
    with pytest.raises(VideoError) as caught:
        cut_video(source, RECIPE, name="a.mp4", folder=folder, stop=threading.Event())
    return caught.value


def run(tmp_path: Path, *command: str) -> VideoError:
    with (
        pytest.raises(VideoError) as caught,
        running(command, video=tmp_path / "a", errors=tmp_path / "errors", deadline=time.monotonic() + 60) as stream,
    ):
        os.read(stream, 1)
    return caught.value


def test_clips_that_grow_too_large_end_the_video(run_ffmpeg, tmp_path, monkeypatch):
    source = tmp_path / "source.mp4"
    run_ffmpeg(*TESTSRC, "testsrc2=s=64x48:r=25:d=6", *X264, source)
    monkeypatch.setattr(cutting, "MOST_BYTES", 5000)
    error = refusal(source, tmp_path / "clips")
    assert (error.reason, "5000" in error.message) == ("too_large", True)


def test_an_ffmpeg_that_gets_no_memory_is_told_from_a_damaged_video(run_ffmpeg, tmp_path, monkeypatch):
    source = tmp_path / "source.mp4"
    run_ffmpeg(*TESTSRC, "testsrc2=s=7680x4320:r=5:d=1", *X264, source)
    monkeypatch.setattr(runs, "_MEMORY_BYTES", 400 * 1024**2)
    assert refusal(source, tmp_path / "clips").reason == "out_of_memory"


@pytest.mark.parametrize(
    "words",
    ["x264 [error]: malloc of size 123 failed", "Error: Cannot allocate memory", "[fc#0] pthread_create() failed: x"],
)
def test_words_about_memory_are_understood(tmp_path, words):
    assert run(tmp_path, "/bin/sh", "-c", f"echo '{words}' >&2; exit 1").reason == "out_of_memory"


def test_a_memory_error_of_our_own_is_the_videos(run_ffmpeg, tmp_path, monkeypatch):
    source = tmp_path / "source.mp4"
    run_ffmpeg(*TESTSRC, "testsrc2=s=64x48:r=25:d=1", *X264, source)

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(cutting, "prove", full)
    assert refusal(source, tmp_path / "clips").reason == "out_of_memory"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGXCPU, signal.SIGTERM])
def test_an_ffmpeg_that_was_killed_is_no_damaged_video(tmp_path, number):
    error = run(tmp_path, "/bin/sh", "-c", f"kill -{number.value} $$")
    assert (error.reason, number.name in error.message) == ("killed", True)


def test_sound_that_goes_on_for_hours_behind_the_picture_is_not_waited_for(run_ffmpeg, tmp_path):
    second, source = tmp_path / "second.mka", tmp_path / "source.mkv"
    run_ffmpeg(*TESTSRC, "sine=d=60:r=8000", "-c:a", "aac", "-b:a", "8k", second)
    run_ffmpeg(
        *TESTSRC, "testsrc2=s=64x48:r=25:d=0.04", "-stream_loop", "300", "-i", second, "-map", "0:v", "-map", "1:a",
        *X264, "-c:a", "copy", source,
    )  # fmt: skip
    (tmp_path / "clips").mkdir()
    done = cut_video(source, RECIPE, name="a", folder=tmp_path / "clips", stop=threading.Event())
    ((_, clip),) = done.clips
    with av.open(str(clip)) as container:
        assert container.streams.audio[0].duration * container.streams.audio[0].time_base <= 0.05
    assert clip.stat().st_size < 20_000
