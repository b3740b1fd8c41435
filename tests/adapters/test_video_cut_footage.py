"""What features are made of, taken while clips are proven."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from shardmill.adapters.clip_reading import read_footage
from shardmill.adapters.footage_file import load_footage
from shardmill.adapters.video import cut as cutting
from shardmill.adapters.video.cut import cut_video
from shardmill.adapters.video.pieces import Pieces
from shardmill.adapters.video.places import FOOTAGE
from shardmill.core.footage import Footage
from shardmill.specs.recipes import SplitRecipe

LAVFI = ("-f", "lavfi", "-i")
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


def check(source: Path, folder: Path, recipe: SplitRecipe, max_frames: int = 300) -> Footage:
    """Cut a video with footage, and compare that with what its clips give."""
    (folder / "clips").mkdir()
    done = cut_video(
        source, recipe, name="a", folder=folder / "clips", stop=threading.Event(), footage=folder / "footage.npz"
    )
    taken = load_footage(folder / "footage.npz")
    read = read_footage(
        [path.read_bytes() for _, path in done.clips],
        [number for number, _ in done.clips],
        clip_seconds=recipe.clip_seconds,
        max_frames=max_frames,
    )
    assert (taken.frames == read.frames).all()
    assert taken.seconds == read.seconds
    assert len(taken.sound) == len(read.sound)
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(taken.sound, read.sound, strict=True))
    return taken


@pytest.mark.parametrize(("rate", "clip_seconds"), [("25", 2.0), ("30000/1001", 1.7), ("6", 0.5)])
def test_footage_taken_while_proving_is_that_of_the_finished_clips(run_ffmpeg, tmp_path, rate, clip_seconds):
    source = tmp_path / "source.mp4"
    inputs = (*LAVFI, f"testsrc2=s=160x90:r={rate}:d=5.3", *LAVFI, "sine=f=440:r=44100:d=5.3")
    run_ffmpeg(*inputs, *X264, "-c:a", "aac", source)
    recipe = SplitRecipe(width=64, height=32, preset="veryfast", clip_seconds=clip_seconds)
    footage = check(source, tmp_path, recipe)
    assert footage.frames.shape == (6, 32, 64, 3)
    assert len(footage.sound[0]) in (8000, 16000)


def test_footage_of_a_silent_video_has_no_samples(run_ffmpeg, tmp_path):
    source = tmp_path / "source.mp4"
    run_ffmpeg(*LAVFI, "testsrc2=s=160x90:r=25:d=3", *X264, source)
    footage = check(source, tmp_path, SplitRecipe(width=64, height=32, preset="veryfast"))
    assert [len(samples) for samples in footage.sound] == [0, 0, 0]


def test_no_more_seconds_are_taken_than_features_need(run_ffmpeg, tmp_path, monkeypatch):
    source = tmp_path / "source.mp4"
    run_ffmpeg(*LAVFI, "testsrc2=s=160x90:r=5:d=9", *X264, source)
    monkeypatch.setattr(cutting, "MOST_SECONDS", 3)
    assert len(check(source, tmp_path, SplitRecipe(width=64, height=32, preset="veryfast"), 3).frames) == 3


def test_what_is_no_file_but_has_the_footages_name_is_left_until_all_is_removed(tmp_path):
    (tmp_path / "one" / FOOTAGE).mkdir(parents=True)
    pieces = Pieces(tmp_path / "one", (0,), 1, 1.0, size=7)
    assert pieces.without_footage() == pieces
    pieces.remove()
    assert not (tmp_path / "one").exists()


def test_footage_that_is_removed_counts_no_more(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / FOOTAGE).write_bytes(b"12345")
    left = Pieces(tmp_path / "one", (0,), 1, 1.0, size=7).without_footage()
    assert (left.size, left.footage.exists()) == (2, False)
