"""The acceptance of the split stage on real videos, read by an independent ffprobe (the system's, if it has one)."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from shardmill.adapters.lake import commit, file_sha256, latest_revision, put_part
from shardmill.adapters.store import Store
from shardmill.adapters.tar import read_clips
from shardmill.jobs.split import Outcome, Splitting, split_shard
from shardmill.specs.manifest import Manifest, Part, SourceObject
from shardmill.specs.recipes import SplitRecipe

RECIPE = SplitRecipe(preset="ultrafast")
FRAME = "frame=media_type,best_effort_timestamp,key_frame"
MILLISECOND = Fraction(1, 1000)


@dataclass(frozen=True)
class Probed:
    """A video stream as ffprobe reads it."""

    times: tuple[Fraction, ...]
    keys: tuple[bool, ...]
    start: Fraction
    length: Fraction
    size: tuple[int, int]
    sound: tuple[str, Fraction] | None
    """Codec and start of the audio stream."""

    @property
    def longest_gap(self) -> Fraction:
        return max((after - before for before, after in pairwise(self.times)), default=Fraction(1, 10))


@dataclass(frozen=True)
class Split:
    """The real shards, split, and unpacked for ffprobe."""

    outcomes: list[Outcome]
    sources: dict[str, Probed]
    clips: dict[str, list[tuple[int, Probed]]]


def ffprobe(path: Path) -> Probed:
    shown = subprocess.run(
        ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-show_entries", FRAME, "-of", "json", str(path)],
        capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    assert not shown.stderr
    read = json.loads(shown.stdout)
    stream = next(stream for stream in read["streams"] if stream["codec_type"] == "video")
    sound = next((stream for stream in read["streams"] if stream["codec_type"] == "audio"), None)
    base = Fraction(stream["time_base"])
    frames = [frame for frame in read["frames"] if frame["media_type"] == "video"]
    assert int(stream["nb_read_frames"]) == len(frames)
    return Probed(
        times=tuple(frame["best_effort_timestamp"] * base for frame in frames),
        keys=tuple(bool(frame["key_frame"]) for frame in frames),
        start=stream["start_pts"] * base,
        length=stream["duration_ts"] * base,
        size=(stream["width"], stream["height"]),
        sound=(sound["codec_name"], Fraction(sound["start_time"])) if sound else None,
    )


def ingest(lake: Store, path: Path, shard: int) -> None:
    sha256 = file_sha256(path)
    name = f"raw/yt/{shard:06d}/r000/yt-{shard:06d}-000000-{sha256[:12]}.tar"
    part = Part(name=name, size=path.stat().st_size, sha256=sha256, samples=1)
    put_part(lake, part, path)
    source = SourceObject(uri=f"file://{path}", size=part.size, version=part.sha256)
    commit(
        lake,
        Manifest(stage="raw", dataset="yt", shard=shard, revision=0, source=source, samples_in=1, parts=(part,)),
    )


def unpack_sources(folder: Path, target: Path) -> Iterator[tuple[str, Path]]:
    for shard in range(3):
        with tarfile.open(folder / f"yt8m-lo-{shard:06d}.tar") as tar:
            for member in tar:
                if member.name.endswith(".mp4"):
                    path = target / f"{shard}-{member.offset}.mp4"
                    path.write_bytes(tar.extractfile(member).read())
                    yield member.name.removesuffix(".mp4"), path


@pytest.fixture(scope="module")
def split(real_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Split:
    if shutil.which("ffprobe") is None:
        pytest.skip("needs an ffprobe that is not ours: none on PATH (Debian's package is ffmpeg)")
    folder = tmp_path_factory.mktemp("real")
    lake = Store(f"file://{folder}/lake", create=True)
    outcomes = []
    files: list[tuple[str, int, Path]] = [(key, -1, path) for key, path in unpack_sources(real_videos / "raw", folder)]
    for shard in range(3):
        ingest(lake, real_videos / "raw" / f"yt8m-lo-{shard:06d}.tar", shard)
        outcomes.append(split_shard(lake, "yt", shard, RECIPE, Splitting(max_reject_share=0.0)))
        manifest = latest_revision(lake, "clips", "yt", RECIPE.hash, shard).manifest
        for index, video in enumerate(read_clips(lake, manifest)):
            for number, content in zip(video.numbers, video.clips, strict=True):
                path = folder / f"clip-{shard}-{index}-{number}.mp4"
                path.write_bytes(content)
                files.append((video.key, number, path))
    sources: dict[str, Probed] = {}
    clips: dict[str, list[tuple[int, Probed]]] = {}
    with ThreadPoolExecutor(2) as pool:
        for (key, number, _), probed in zip(files, pool.map(lambda item: ffprobe(item[2]), files), strict=True):
            if number < 0:
                sources[key] = probed
            else:
                clips.setdefault(key, []).append((number, probed))
    return Split(outcomes, sources, clips)


def test_three_shards_of_twenty_videos_give_ninety_clips_and_no_reject(split):
    assert [outcome.videos for outcome in split.outcomes] == [7, 7, 6]
    assert sum(outcome.clips for outcome in split.outcomes) == 90
    assert sum(outcome.rejects for outcome in split.outcomes) == 0
    assert set(split.clips) == set(split.sources)


def test_every_clip_but_the_last_lasts_two_seconds_to_within_a_frame(split):
    for key, clips in split.clips.items():
        frame = split.sources[key].longest_gap
        for number, clip in clips[:-1]:
            assert abs(clip.length - 2) <= frame + MILLISECOND, (key, number)
        assert clips[-1][1].length <= 2 + frame + MILLISECOND


def test_the_frames_of_a_videos_clips_are_its_frames(split):
    for key, clips in split.clips.items():
        source = split.sources[key]
        assert sum(len(clip.times) for _, clip in clips) == len(source.times), key
        spans: dict[int, list[Fraction]] = {}
        for time in source.times:
            spans.setdefault(int((time - source.times[0]) // 2), []).append(time)
        assert [number for number, _ in clips] == list(spans), key
        for (number, clip), expected in zip(clips, spans.values(), strict=True):
            assert clip.times == tuple(time - expected[0] for time in expected), (key, number)


def test_a_variable_rate_stays_variable(split):
    for key in ("6fire_vfr__", "4handshake_"):
        gaps = {after - before for _, clip in split.clips[key] for before, after in pairwise(clip.times)}
        assert len(gaps) > 1


def test_every_clip_begins_with_a_key_frame_at_zero(split):
    for key, clips in split.clips.items():
        for number, clip in clips:
            assert (clip.start, clip.times[0], clip.keys[0]) == (0, 0, True), (key, number)
            assert clip.size == (256, 128)


def test_sound_is_aac_in_step_with_the_picture_where_the_source_has_sound(split):
    for key, clips in split.clips.items():
        for number, clip in clips:
            assert (clip.sound is not None) == (split.sources[key].sound is not None), (key, number)
            if clip.sound:
                assert clip.sound[0] == "aac"
                assert abs(clip.sound[1]) <= MILLISECOND
