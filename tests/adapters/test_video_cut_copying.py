"""Sources that are as clips are to be: copied where that is proven, encoded otherwise."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import av
import pytest

from shardmill.adapters.video import inside
from shardmill.adapters.video.copying import may_be_cropped
from shardmill.adapters.video.cut import CutVideo, cut_video
from shardmill.adapters.video.nal import parameter_sets
from shardmill.adapters.video.places import VIDEO
from shardmill.specs.recipes import SplitRecipe

RECIPE = SplitRecipe(width=128, height=64, preset="ultrafast")
TESTSRC = ("-f", "lavfi", "-i", "testsrc2=s=128x64:r=25:d=5")
SINE = ("-f", "lavfi", "-i", "sine=f=440:d=5")
GRID = ("-g", "50", "-keyint_min", "50", "-sc_threshold", "0")
CLOSED = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-x264-params", "open-gop=0", *GRID)


def cut(path: Path, folder: Path, **changes: object) -> CutVideo:
    folder.mkdir()
    recipe = RECIPE.model_copy(update=changes)
    return cut_video(path, recipe, name="a.mp4", folder=folder, stop=threading.Event())


def pictures(*paths: Path) -> list[bytes]:
    found = []
    for path in paths:
        with av.open(str(path)) as container:
            found += [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]
    return found


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_a_matching_source_is_copied_picture_by_picture(run_ffmpeg, tmp_path, suffix):
    source = tmp_path / f"source.{suffix}"
    run_ffmpeg(*TESTSRC, *SINE, *CLOSED, "-c:a", "aac", source)
    done = cut(source, tmp_path / "clips")
    assert (done.copied, done.frames, [number for number, _ in done.clips]) == (True, 125, [0, 1, 2])
    assert pictures(*(path for _, path in done.clips)) == pictures(source)
    for _, path in done.clips:
        with av.open(str(path)) as container:
            assert (container.streams.video[0].start_time, len(container.streams.audio)) == (0, 1)


def test_a_matching_source_is_encoded_where_the_recipe_says_so(run_ffmpeg, tmp_path):
    source = tmp_path / "source.mp4"
    run_ffmpeg(*TESTSRC, *CLOSED, source)
    assert not cut(source, tmp_path / "clips", copy_matching=False).copied


def test_the_sound_of_copied_clips_is_that_of_encoded_ones(run_ffmpeg, tmp_path):
    source = tmp_path / "source.mp4"
    run_ffmpeg(*TESTSRC, *SINE, *CLOSED, "-c:a", "aac", source)
    found = []
    for name, copy in (("copied", True), ("encoded", False)):
        for _, path in cut(source, tmp_path / name, copy_matching=copy).clips:
            with av.open(str(path)) as container:
                found.append([bytes(packet) for packet in container.demux(audio=0)])
    assert found[:3] == found[3:]


@pytest.mark.parametrize(
    "arguments",
    [
        (*CLOSED[:6], "-x264-params", "open-gop=1:bframes=3", "-g", "25", "-sc_threshold", "0"),
        (*CLOSED, "-vf", "scale=130:64"),
        (*CLOSED[:8], "-g", "40", "-keyint_min", "40", "-sc_threshold", "0"),
        (*CLOSED, "-pix_fmt", "yuv420p10le"),
        (*CLOSED, "-pix_fmt", "yuv422p"),
        (*CLOSED, "-vf", "setsar=4/3"),
        (*CLOSED, "-flags", "+ildct+ilme", "-x264-params", "tff=1"),
        ("-c:v", "mpeg4", *GRID),
    ],
    ids=["open-gop", "size", "off-the-grid", "10-bit", "4:2:2", "aspect", "interlaced", "mpeg4"],
)
def test_a_source_that_does_not_match_is_encoded(run_ffmpeg, tmp_path, arguments):
    source = tmp_path / "source.mp4"
    run_ffmpeg(*TESTSRC, *arguments, source)
    done = cut(source, tmp_path / "clips")
    assert (done.copied, done.frames) == (False, 125)


def test_a_turned_source_is_encoded(run_ffmpeg, tmp_path):
    flat, source = tmp_path / "flat.mp4", tmp_path / "source.mp4"
    run_ffmpeg(*TESTSRC, *CLOSED, flat)
    run_ffmpeg("-display_rotation", "180", "-i", flat, "-c", "copy", source)
    assert not cut(source, tmp_path / "clips").copied


def test_a_source_whose_parameters_change_is_encoded(run_ffmpeg, tmp_path):
    streams = []
    for name, reference in (("a", "1"), ("b", "3")):
        streams.append(tmp_path / f"{name}.h264")
        run_ffmpeg(*TESTSRC, "-t", "2", *CLOSED[:6], "-bf", "0", *GRID, "-refs", reference, streams[-1])
    both, source = tmp_path / "both.h264", tmp_path / "source.mp4"
    both.write_bytes(b"".join(stream.read_bytes() for stream in streams))
    run_ffmpeg("-r", "25", "-i", both, "-c", "copy", source)
    done = cut(source, tmp_path / "clips")
    assert (done.copied, done.frames) == (False, 100)


def test_a_source_with_references_across_key_frames_is_encoded(run_ffmpeg, tmp_path):
    # The container calls frames key frames that are none: they decode well, but not alone.
    source = tmp_path / "source.mp4"
    run_ffmpeg(*TESTSRC, *CLOSED[:6], "-bf", "0", "-g", "250", "-sc_threshold", "0", source)
    with av.open(str(source)) as container, av.open(str(tmp_path / "false.mp4"), "w") as copy:
        stream = container.streams.video[0]
        track = copy.add_stream_from_template(stream)
        for index, packet in enumerate(packet for packet in container.demux(stream) if packet.size):
            packet.stream, packet.is_keyframe = track, index % 50 == 0
            copy.mux(packet)
    done = cut(tmp_path / "false.mp4", tmp_path / "clips")
    assert (done.copied, done.frames) == (False, 125)


def test_a_container_that_crops_is_found(run_ffmpeg, tmp_path):
    plain, cropped = tmp_path / "plain.mkv", tmp_path / "cropped.mkv"
    run_ffmpeg(*TESTSRC, *CLOSED, plain)
    assert not may_be_cropped(plain)
    cropped.write_bytes(plain.read_bytes().replace(b"\xba\x81\x40", b"\x54\xaa\x81\x08\xba\x81\x40", 1))
    assert may_be_cropped(cropped)
    box = tmp_path / "box.mp4"
    box.write_bytes(b"\0\0\0\x18ftypmp42....clap....")
    assert may_be_cropped(box)


def test_parameter_sets_are_found_behind_lengths_and_behind_start_codes():
    header = b"\x01\x64\x00\x0d\xff"
    units = [b"\x67sps", b"\x68pps", b"\x65slice"]
    measured = b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)
    marked = b"".join(b"\0\0\0\x01" + unit for unit in units)
    assert list(parameter_sets(measured, header)) == units[:2]
    assert list(parameter_sets(marked, b"\0\0\0\x01\x67sps")) == units[:2]
    assert list(parameter_sets(b"\0\0\0\x09\x67", header)) == [b"\x67"]


@pytest.mark.parametrize("copy", [True, False])
def test_the_process_that_forks_sees_by_the_end_of_an_answer_that_pictures_were_compared(run_ffmpeg, tmp_path, copy):
    run_ffmpeg(*TESTSRC, *CLOSED, "-f", "mp4", tmp_path / VIDEO)
    recipe = RECIPE.model_copy(update={"copy_matching": copy}).model_dump()
    asked = {"folder": str(tmp_path), "name": "a.mp4", "recipe": recipe, "seconds": 60.0, "footage": False}
    assert json.dumps(inside._answer(asked)).encode().endswith(inside._COPIED) is copy
