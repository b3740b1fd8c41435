"""Odd, damaged and hostile files, split between two good videos."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Mapping

import av
import pytest
from odd.conftest import shard_of
from odd.inputs import FILES, STRETCHED
from odd.rows import Becomes, Odd
from odd.splitting import RECIPE, Place, Result, run_program

FFPROBE = shutil.which("ffprobe")
GOOD = [Becomes(2, 75)]


def each(rows: Mapping[str, Odd]) -> list:
    """Give the names of rows, those with a known fault marked."""
    marks = {
        name: [pytest.mark.xfail(strict=True, reason=row.fault)] if row.fault else [] for name, row in rows.items()
    }
    return [pytest.param(name, marks=marks[name], id=name) for name in rows]


@pytest.mark.parametrize("name", each(FILES))
def test_each_file_becomes_what_its_row_says(split_files: Result, name: str):
    expected = FILES[name].fate
    assert split_files.fates(name) == [expected], split_files.words(name)
    if isinstance(expected, Becomes):
        assert sum(frames_of_whole(clip) for clip in split_files.clips[name].clips) == expected.frames
    else:
        assert split_files.words(name)


def frames_of_whole(clip: bytes) -> int:
    """Decode a clip as the recipe promises it; count its frames."""
    with av.open(io.BytesIO(clip)) as container:
        kinds = [stream.type for stream in container.streams]
        assert kinds in (["video"], ["video", "audio"])
        picture = container.streams.video[0].codec_context
        assert (picture.name, picture.width, picture.height) == ("h264", 64, 32)
        assert picture.pix_fmt in ("yuv420p", "yuvj420p")  # j: of full range
        frames = list(container.decode(video=0))
    assert frames[0].key_frame
    assert frames[0].pts == 0
    return len(frames)


def test_the_good_videos_of_the_shard_are_published(split_files: Result):
    assert split_files.fates("good-first") == split_files.fates("good-last") == GOOD
    assert split_files.manifest.samples_in == len(FILES) + 2
    assert list(split_files.place.scratch.iterdir()) == []


def test_clips_pass_ffprobe(split_files: Result, tmp_path):
    if FFPROBE is None:
        pytest.skip("ffprobe is not installed")
    for key, video in list(split_files.clips.items())[::4]:  # each costs a process
        path = tmp_path / "clip.mp4"
        path.write_bytes(video.clips[-1])
        command = [FFPROBE, "-v", "warning", "-show_entries", "stream=codec_name", "-of", "json", str(path)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
        assert (done.returncode, done.stderr) == (0, ""), key
        codecs = [stream["codec_name"] for stream in json.loads(done.stdout)["streams"]]
        assert codecs in (["h264"], ["h264", "aac"]), key


def test_papers_and_refusals_name_no_path_of_this_machine(split_files: Result):
    lake, manifest = split_files.place.lake, split_files.manifest
    scratch, told = str(split_files.place.scratch), manifest.model_dump_json(include={"videos", "rejects", "tools"})
    assert scratch not in told
    for part in manifest.parts:
        with tarfile.open(fileobj=io.BytesIO(lake.get(part.name))) as tar:
            papers = [tar.extractfile(member).read() for member in tar if member.name.endswith(".json")]
        assert papers
        assert not any(scratch.encode() in paper for paper in papers)


@pytest.mark.parametrize("name", each(STRETCHED))
def test_times_that_go_far_cost_no_more_than_their_video(tmp_path, made, good, name: str):
    place = Place(tmp_path)
    place.ingest(shard_of(made, good, {name: STRETCHED[name]}))
    done = run_program(place, memory_gigabytes=3)
    assert done.returncode == 0, done.stderr[-2000:]
    result = place.result()
    assert result.fates("good-first") == result.fates("good-last") == GOOD
    assert result.fates(name) == [STRETCHED[name].fate], result.words(name)
    clips = result.clips[name].clips if name in result.clips else ()
    assert all(seconds_of(clip) < 2 * RECIPE.clip_seconds for clip in clips)


def seconds_of(clip: bytes) -> float:
    with av.open(io.BytesIO(clip)) as container:
        return container.duration / 1_000_000
