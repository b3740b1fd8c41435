"""Two ways to encode: plain videos in the process itself, others by ffmpeg, and nobody can tell which."""

from __future__ import annotations

import hashlib
import threading
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest

from shardmill.adapters.sample_files import encode_scene
from shardmill.adapters.video import cut as cutting
from shardmill.adapters.video.cut import CutVideo, cut_video
from shardmill.adapters.video.error import FramesDifferError
from shardmill.adapters.video.sound import Sound
from shardmill.adapters.video.transcode import decoding
from shardmill.core.sample_scenes import Scene
from shardmill.specs.recipes import SplitRecipe

RECIPE = SplitRecipe(width=64, height=32, preset="ultrafast", copy_matching=False)
LAVFI = ("-f", "lavfi", "-i")
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p")
VOICE = "aevalsrc='0.3*sin(2*PI*440*t+3*sin(t*7))|0.3*sin(2*PI*330*t)':s=44100:d=5"


def cut(path: Path, folder: Path, recipe: SplitRecipe = RECIPE) -> CutVideo:
    folder.mkdir()
    return cut_video(path, recipe, name="a", folder=folder, stop=threading.Event())


def contents(done: CutVideo) -> tuple[list[np.ndarray], list[np.ndarray]]:
    pictures, sound = [], []
    for _, path in done.clips:
        with av.open(str(path)) as container:
            for frame in container.decode():
                (pictures if isinstance(frame, av.VideoFrame) else sound).append(frame.to_ndarray())
    return pictures, sound


@pytest.fixture
def by_ffmpeg(monkeypatch):
    """Have nothing encoded in the process itself."""
    used: list[str] = []

    def begin(*arguments: object) -> int:
        used.append("ffmpeg")
        return begin_picture(*arguments)

    begin_picture = cutting._begin_picture
    monkeypatch.setattr(cutting, "_begin_picture", begin)
    return used


@pytest.mark.parametrize(
    "size", ["64x32", "160x90", "320x240"], ids=["as it is", "smaller", "much smaller, with black beside it"]
)
def test_both_ways_give_the_same_pictures_and_the_same_sound(run_ffmpeg, tmp_path, monkeypatch, by_ffmpeg, size):
    source = tmp_path / "source.mp4"
    run_ffmpeg(*LAVFI, f"testsrc2=s={size}:r=25:d=5", *LAVFI, VOICE, *X264, "-bf", "3", "-c:a", "aac", source)
    here = contents(cut(source, tmp_path / "here"))
    assert by_ffmpeg == []
    monkeypatch.setattr(cutting, "_cut_here", lambda job: None)
    there = contents(cut(source, tmp_path / "there"))
    assert by_ffmpeg == ["ffmpeg"]
    assert len(here[0]) == len(there[0]) == 125
    assert all(np.array_equal(a, b) for a, b in zip(here[0], there[0], strict=True))
    both = [np.concatenate(sound, axis=1) for sound in (here[1], there[1])]
    assert both[0].shape == both[1].shape
    assert np.sqrt(np.mean((both[0] - both[1]) ** 2)) < 0.01 * np.sqrt(np.mean(both[1] ** 2))


@pytest.mark.parametrize(
    "making",
    [
        ("-pix_fmt", "yuv444p"),
        ("-pix_fmt", "yuv420p10le"),
        ("-vf", "setsar=4/3"),
        ("-color_range", "pc"),
        ("-flags", "+ildct+ilme", "-x264-params", "tff=1"),
    ],
    ids=["full colour", "10 bits", "oblong pixels", "full range", "interlaced"],
)
def test_what_is_not_plain_is_encoded_by_ffmpeg(run_ffmpeg, tmp_path, by_ffmpeg, making):
    source = tmp_path / "source.mp4"
    run_ffmpeg(*LAVFI, "testsrc2=s=160x96:r=25:d=3", *X264, *making, source)
    done = cut(source, tmp_path / "clips")
    assert (done.frames, by_ffmpeg) == (75, ["ffmpeg"])


def test_a_mirrored_source_is_shown_mirrored_and_not_copied(run_ffmpeg, tmp_path, by_ffmpeg):
    plain, mirrored = tmp_path / "plain.mp4", tmp_path / "mirrored.mp4"
    grid = ("-g", "50", "-keyint_min", "50", "-sc_threshold", "0", "-x264-params", "open-gop=0")
    run_ffmpeg(*LAVFI, "testsrc2=s=64x32:r=25:d=3", *X264, *grid, plain)
    run_ffmpeg("-display_vflip", "-i", plain, "-c", "copy", mirrored)
    matching = RECIPE.model_copy(update={"copy_matching": True, "crf": 1.0})
    upright, turned = (cut(path, tmp_path / path.stem, matching) for path in (plain, mirrored))
    assert (upright.copied, turned.copied, by_ffmpeg) == (True, False, ["ffmpeg"])
    first, second = (contents(done)[0][0][:32] for done in (upright, turned))
    assert np.abs(first[::-1].astype(int) - second).mean() < 3 < np.abs(first.astype(int) - second).mean()


def test_sound_that_is_odd_goes_through_ffmpeg_and_the_pictures_do_not(run_ffmpeg, tmp_path, monkeypatch, by_ffmpeg):
    source = tmp_path / "source.mp4"
    run_ffmpeg(*LAVFI, "testsrc2=s=160x90:r=25:d=3", *LAVFI, VOICE, *X264, "-c:a", "aac", "-t", "3", source)
    expected = contents(cut(source, tmp_path / "all here"))[1]
    used: list[str] = []
    sound_of_ffmpeg = cutting._sound_of_ffmpeg
    monkeypatch.setattr(cutting, "_sound_of_ffmpeg", lambda *all_: used.append("ffmpeg") or sound_of_ffmpeg(*all_))

    def odd(*_: object) -> None:
        raise cutting.SoundDiffersError("odd")

    monkeypatch.setattr(cutting, "encoded_sound", odd)
    found = contents(cut(source, tmp_path / "clips"))[1]
    assert (used, by_ffmpeg, len(found)) == (["ffmpeg"], [], len(expected))


def test_pictures_that_turn_out_odd_midway_go_through_ffmpeg_as_a_whole(run_ffmpeg, tmp_path, monkeypatch, by_ffmpeg):
    source = tmp_path / "source.mp4"
    run_ffmpeg(*LAVFI, "testsrc2=s=160x90:r=25:d=5", *X264, source)
    expected = contents(cut(source, tmp_path / "here"))[0]
    prove, proven = cutting.prove, []

    def odd_midway(clip: object, *rest: object) -> None:
        proven.append(clip)
        if len(proven) == 2:
            raise FramesDifferError("odd")
        prove(clip, *rest)

    monkeypatch.setattr(cutting, "prove", odd_midway)
    found = contents(cut(source, tmp_path / "clips"))[0]
    assert (by_ffmpeg, len(proven)) == (["ffmpeg"], 2 + 3)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_only_what_becomes_a_good_deal_smaller_is_decoded_unsmoothed(run_ffmpeg, tmp_path):
    from shardmill.adapters.video.probe import probe

    found = {}
    for size in ("126x64", "128x64"):
        run_ffmpeg(*LAVFI, f"testsrc2=s={size}:r=25:d=1", *X264, tmp_path / f"{size}.mp4")
        found[size] = decoding(probe(tmp_path / f"{size}.mp4", "a"), RECIPE)
    assert found == {"126x64": {}, "128x64": {"skip_loop_filter": "bidir"}}


@pytest.mark.parametrize("size", [(160, 90), (256, 128), (320, 180)])
def test_a_clip_of_any_width_has_the_same_bytes_whatever_lay_in_memory_before(tmp_path, by_ffmpeg, size):
    """Not every picture shows what x264 took from behind a row: those of the sample do."""
    source, random = tmp_path / "source.mp4", np.random.default_rng(0)
    source.write_bytes(encode_scene(Scene(7, ("sunset", "siren"), seconds=2.0)))
    recipe = SplitRecipe(width=size[0], height=size[1], copy_matching=False)
    found = set()
    for number in range(6):
        found.add(hashlib.sha256(cut(source, tmp_path / str(number), recipe).clips[0][1].read_bytes()).hexdigest())
        kept = [random.bytes(100) * int(random.integers(1, 5000)) for _ in range(20)]
        del kept
    assert (len(found), by_ffmpeg) == (1, [])


@pytest.mark.parametrize("way", ["copied", "encoded"])
def test_a_complaint_at_the_very_end_of_the_sound_is_heard(run_ffmpeg, tmp_path, monkeypatch, by_ffmpeg, way):
    source = tmp_path / "source.mp4"
    grid = ("-g", "50", "-keyint_min", "50", "-sc_threshold", "0", "-x264-params", "open-gop=0")
    run_ffmpeg(*LAVFI, "testsrc2=s=64x32:r=25:d=3", *LAVFI, VOICE, *X264, *grid, "-c:a", "aac", "-t", "3", source)
    take, taken = Sound.take, []

    def complaining(self: Sound, first: object, last: object) -> object:
        taken.append(last)
        if last == 3 and len(taken) == 2:  # the last clip's, behind the last picture
            with suppress(av.error.FFmpegError):
                av.CodecContext.create("h264", "r").decode(av.Packet(b"\0\0\1\x65 no picture"))
        return take(self, first, last)

    monkeypatch.setattr(Sound, "take", complaining)
    done = cut(source, tmp_path / "clips", RECIPE.model_copy(update={"copy_matching": way == "copied"}))
    assert len(taken) > 2  # it was cut once more
    assert done.frames == 75
