from __future__ import annotations

import hashlib
import io
import json
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partialmethod
from pathlib import Path
from typing import Any, ClassVar

import pytest
from faults.in_process import InProcess

from shardmill.adapters.footage_file import load_footage
from shardmill.adapters.lake import commit, file_sha256, latest_revision, put_part
from shardmill.adapters.store import ChangedObjectError, DamagedObjectError, MissingObjectError, Store
from shardmill.adapters.tar import read_clips
from shardmill.adapters.video import transcode
from shardmill.adapters.video.error import VideoError
from shardmill.adapters.video.pieces import Pieces
from shardmill.adapters.video.slots import Slot
from shardmill.core.rejects import RejectsMayPassError, TooManyRejectsError
from shardmill.core.tar_header import DamagedTarError
from shardmill.jobs.split import EmptyShardError, Outcome, Splitting, publication, split_shard
from shardmill.specs.manifest import Manifest, Part, SourceObject
from shardmill.specs.recipes import SplitRecipe

RECIPE = SplitRecipe(width=64, height=32, preset="ultrafast")
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n/etc/hostname\n#EXT-X-ENDLIST\n"
Files = list[tuple[str, bytes]]


@pytest.fixture(scope="module")
def video(run_ffmpeg: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Five seconds with sound: three clips."""
    path = tmp_path_factory.mktemp("video") / "v.mp4"
    run_ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=5", "-f", "lavfi", "-i", "sine=f=440:r=16000:d=5",
        "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", path,
    )  # fmt: skip
    return path.read_bytes()


def make_tar(files: Files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def ingest(lake: Store, folder: Path, content: bytes, revision: int = 0) -> Part:
    """Put a raw shard into the lake."""
    path = folder / f"raw-{revision}.tar"
    path.write_bytes(content)
    sha256 = file_sha256(path)
    name = f"raw/yt/000003/r{revision:03d}/yt-000003-000000-{sha256[:12]}.tar"
    part = Part(name=name, size=len(content), sha256=sha256, samples=1)
    put_part(lake, part, path)
    source = SourceObject(uri="file:///elsewhere/yt-000003.tar", size=part.size, version=f"v{revision}")
    raw = Manifest(stage="raw", dataset="yt", shard=3, revision=revision, source=source, samples_in=1, parts=(part,))
    commit(lake, raw)
    return part


def split(lake: Store, recipe: SplitRecipe = RECIPE, **how: object) -> Outcome:
    return split_shard(lake, "yt", 3, recipe, Splitting(**({"max_reject_share": 0.0, "workers": 1} | how)))


def clips_of(lake: Store, recipe: SplitRecipe = RECIPE) -> Manifest:
    revision = latest_revision(lake, "clips", "yt", recipe.hash, 3)
    assert revision is not None
    return revision.manifest


def keys_in(lake: Store) -> set[str]:
    return {item.key for item in lake.list("")}


def test_a_shard_becomes_clips_with_their_papers(lake, tmp_path, video):
    info = b'{"title": "A & <b>B</b>",  "labels": ["street", "people"]}'
    raw = ingest(lake, tmp_path, make_tar([("./---a.info.json", info), ("./---a.mp4", video), ("./---a.txt", b"x")]))
    lines: list[str] = []
    outcome = split(lake, progress=lines.append)
    assert (outcome.skipped, outcome.why, outcome.videos, outcome.clips, outcome.rejects, outcome.revision) == (
        False,
        "new",
        1,
        3,
        0,
        0,
    )
    assert lines == ["---a: 3 clips, 125 frames, 5.000 s"]
    manifest = clips_of(lake)
    (found,) = manifest.videos
    assert (found.key, found.clips, found.frames, found.seconds, found.labels) == (
        "---a",
        3,
        125,
        5.0,
        ("street", "people"),
    )
    assert manifest.source == SourceObject(uri="file:///elsewhere/yt-000003.tar", size=raw.size, version="v0")
    assert set(manifest.tools) == {"ffmpeg", "av", "shardmill"}
    (part,) = manifest.parts
    assert part.name.startswith(f"clips/yt/{RECIPE.hash}/000003/r000/yt-clips-000003-000000-{part.sha256[:12]}")
    (read,) = read_clips(lake, manifest)
    assert (read.key, read.numbers, read.info["labels"]) == ("---a", (0, 1, 2), ["street", "people"])
    with tarfile.open(fileobj=io.BytesIO(lake.get(part.name))) as tar:
        names = tar.getnames()
        assert names[:3] == ["---a/000000.info.json", "---a/000000.mp4", "---a/000000.mp4.json"]
        assert tar.extractfile("---a/000001.info.json").read() == info
        facts = json.load(tar.extractfile("---a/000001.mp4.json"))
    assert facts["format"]["filename"] == "./---a.mp4"
    assert [stream["codec_type"] for stream in facts["streams"]] == ["video", "audio"]


def test_footage_is_handed_over_as_soon_as_a_video_is_cut_and_takes_no_room_then(lake, tmp_path, video, run_ffmpeg):
    short = tmp_path / "short.mp4"
    run_ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=1", "-pix_fmt", "yuv420p", short)
    small = short.read_bytes()
    ingest(lake, tmp_path, make_tar([("a.mp4", small), ("b.mp4", small), ("c.mp4", video), ("d.mp4", b"junk")]))
    seconds: list[tuple[str, int]] = []
    left: list[Path] = []

    def take(key: str, path: Path) -> None:
        seconds.append((key, len(load_footage(path).frames)))
        left.append(path)

    def told(line: str) -> None:
        assert not any(path.exists() for path in left), "the footage of a video that is cut"

    split(lake, footage=take, progress=told, max_reject_share=0.5)
    assert sorted(seconds) == [("a", 1), ("b", 1), ("c", 5)]
    described = [key for key, _ in seconds]
    assert described.index("c") < described.index("b"), "the largest that waits is cut first, and described first"
    assert [video.key for video in clips_of(lake).videos] == ["a", "b", "c"]


def test_a_second_run_does_nothing_until_the_source_changes(lake, tmp_path, video):
    ingest(lake, tmp_path, make_tar([("a.mp4", video)]))
    split(lake)
    before = keys_in(lake)
    again = split(lake)
    assert (again.skipped, again.why, again.clips) == (True, "present, made from the same source", 3)
    assert keys_in(lake) == before
    ingest(lake, tmp_path, make_tar([("a.mp4", video), ("b.mp4", video)]), revision=1)
    changed = split(lake)
    assert (changed.skipped, changed.why, changed.revision, changed.clips) == (False, "the source changed", 1, 6)


def parts_after(folder: Path, files: Files, **how: object) -> tuple[list[str], Manifest]:
    """Split a shard in a lake of its own; give the SHA-256 of its parts' bytes, and its manifest."""
    lake = Store(f"file://{folder}", create=True)
    ingest(lake, folder.parent, make_tar(files))
    split(lake, SMALL_PARTS, max_reject_share=0.5, **how)
    manifest = clips_of(lake, SMALL_PARTS)
    return [hashlib.sha256(lake.get(part.name)).hexdigest() for part in manifest.parts], manifest


def test_two_runs_any_pool_and_a_lesser_cpu_give_the_same_bytes(tmp_path, video, monkeypatch):
    files = [(f"{name}.mp4", video if name != "c" else b"junk") for name in "abcdefg"]
    runs = ((1, "once"), (2, "once"), (5, "once"), (2, "again"))
    made = {run: parts_after(tmp_path / f"{run[0]}-{run[1]}", files, workers=run[0]) for run in runs}
    monkeypatch.setattr(transcode, "PICTURE_CPU_FLAGS", "sse2")
    made[1, "sse2"] = parts_after(tmp_path / "sse2", files, workers=1, open_cutter=InProcess)
    assert len({tuple(hashes) for hashes, _ in made.values()}) == 1, made
    first, *others = [manifest for _, manifest in made.values()]
    assert len(first.parts) == len(first.videos) == 6
    assert all((one.parts, one.videos, one.rejects) == (first.parts, first.videos, first.rejects) for one in others)
    assert [video.key for video in first.videos] == list("abdefg")


def test_what_cannot_be_used_is_a_reject_and_the_rest_goes_on(lake, tmp_path, video):
    files: Files = [
        ("---good.mp4", video),
        ("text.mp4", b"this is text"),
        ("short.mp4", video[: len(video) // 2]),
        ("list.mp4", PLAYLIST),
        ("only.info.json", b"{}"),
        ("---good.mp4", video),
        ("../../escape.mp4", video),
        ("/etc/cron.d/x.mp4", video),
        ("<b>-i $(id) %d;.mp4", video),
    ]
    ingest(lake, tmp_path, make_tar(files))
    outcome = split(lake, max_reject_share=0.8)
    manifest = clips_of(lake)
    assert [video.key for video in manifest.videos] == ["---good", "<b>-i $(id) %d;"]
    assert [(reject.key, reject.reason) for reject in manifest.rejects] == [
        ("text", "not_a_video"),
        ("short", "damaged"),
        ("list", "not_a_video"),
        ("only", "no_video"),
        ("---good", "duplicate_key"),
        ("../../escape", "unsafe_key"),
        ("/etc/cron.d/x", "unsafe_key"),
    ]
    assert all(reject.message for reject in manifest.rejects)
    assert manifest.samples_in == len(files) == outcome.videos + outcome.rejects
    assert [read.key for read in read_clips(lake, manifest)] == ["---good", "<b>-i $(id) %d;"]
    assert str(tmp_path) not in manifest.model_dump_json(include={"rejects", "videos", "tools"})


def test_too_many_rejects_publish_nothing(lake, tmp_path, video):
    ingest(lake, tmp_path, make_tar([("a.mp4", video), ("b.mp4", b"junk"), ("c.mp4", b"junk")]))
    with pytest.raises(TooManyRejectsError, match=r"2 of 3 samples were refused.*0\.5.*b: not_a_video"):
        split(lake, max_reject_share=0.5)
    assert latest_revision(lake, "clips", "yt", RECIPE.hash, 3) is None
    assert split(lake, max_reject_share=0.7).rejects == 2


def test_an_empty_shard_is_an_error(lake, tmp_path):
    ingest(lake, tmp_path, make_tar([]))
    with pytest.raises(EmptyShardError, match="found no sample"):
        split(lake, max_reject_share=1.0)


def test_an_absent_shard_is_an_error(lake):
    with pytest.raises(MissingObjectError, match=r"shard 000003 of yt is not in .*: ingest it first"):
        split(lake)


def test_a_damaged_tar_publishes_nothing_and_names_the_shard_and_the_offset(lake, tmp_path, video):
    whole = make_tar([("a.mp4", video), ("b.mp4", video)])
    ingest(lake, tmp_path, whole[: len(whole) // 2 // 512 * 512])
    before = keys_in(lake)
    with pytest.raises(DamagedTarError, match=r"yt-000003.*byte \d+"):
        split(lake, max_reject_share=1.0)
    assert keys_in(lake) == before


def test_broken_info_json_becomes_an_empty_one(lake, tmp_path, video):
    infos = [b"{not json", b"[1]", b"\xff\xfe", b"[" * 100_000, b'{"labels": ["\\ud800"]}']
    files = [(f"{index}{suffix}", content) for index, info in enumerate(infos) for suffix, content in
             ((".info.json", info), (".mp4", video))]  # fmt: skip
    ingest(lake, tmp_path, make_tar(files))
    split(lake)
    assert [read.info for read in read_clips(lake, clips_of(lake))][:4] == [{}, {}, {}, {}]
    assert [len(video.labels) for video in clips_of(lake).videos] == [0, 0, 0, 0, 1]


def test_a_full_part_is_closed_between_videos(lake, tmp_path, video):
    recipe = RECIPE.model_copy(update={"max_part_clips": 4})
    ingest(lake, tmp_path, make_tar([(f"{name}.mp4", video) for name in "abc"]))
    split(lake, recipe)
    manifest = clips_of(lake, recipe)
    assert [video.part for video in manifest.videos] == [0, 0, 1]
    assert [part.samples for part in manifest.parts] == [6, 3]
    assert [read.key for read in read_clips(lake, manifest)] == ["a", "b", "c"]


def test_scratch_is_empty_afterwards_also_behind_a_failure(lake, tmp_path, video):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    ingest(lake, tmp_path, make_tar([("a.mp4", video), ("b.mp4", b"junk")]))
    with pytest.raises(TooManyRejectsError):
        split(lake, max_reject_share=0.0, scratch=scratch)
    split(lake, max_reject_share=1.0, scratch=scratch)
    assert list(scratch.iterdir()) == []


def test_scratch_on_the_lakes_disk_is_empty_afterwards_too(lake, tmp_path, video):
    ingest(lake, tmp_path, make_tar([("a.mp4", video), ("b.mp4", b"junk")]))
    with pytest.raises(TooManyRejectsError):
        split(lake, max_reject_share=0.0)
    split(lake, max_reject_share=1.0)
    assert list((tmp_path / "lake" / "_scratch").iterdir()) == []


def test_the_work_stops_when_the_caller_gives_up(lake, tmp_path, video):
    ingest(lake, tmp_path, make_tar([(f"{index}.mp4", video) for index in range(40)]))
    lines: list[str] = []

    def give_up(line: str) -> None:
        lines.append(line)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        split(lake, progress=give_up)
    assert len(lines) == 1
    assert latest_revision(lake, "clips", "yt", RECIPE.hash, 3) is None


def test_a_manifest_says_where_each_clip_lies(lake, tmp_path, video):
    recipe = RECIPE.model_copy(update={"max_part_clips": 4})
    ingest(
        lake, tmp_path, make_tar([("---a.mp4", video), ("bad.mp4", b"junk"), ("dir/ü.mp4", video), ("c.mp4", video)])
    )
    split(lake, recipe, max_reject_share=0.5)
    manifest = clips_of(lake, recipe)
    read = {video.key: video.clips for video in read_clips(lake, manifest)}
    assert list(read) == ["---a", "dir/ü", "c"]
    for video in manifest.videos:
        name = manifest.parts[video.part].name
        spans = zip(video.offsets, video.sizes, strict=True)
        assert tuple(lake.get_range(name, offset, size) for offset, size in spans) == read[video.key]


def test_spans_without_a_frame_are_named_as_gaps(lake, tmp_path, run_ffmpeg):
    path = tmp_path / "gap.mp4"
    run_ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=9", "-vf", "select='lt(t,1)+gt(t,5)'", "-fps_mode", "vfr",
        "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", path,
    )  # fmt: skip
    ingest(lake, tmp_path, make_tar([("a.mp4", path.read_bytes())]))
    split(lake)
    (video,) = clips_of(lake).videos
    assert (video.clips, video.gaps, len(video.offsets)) == (4, (1,), 4)
    (read,) = read_clips(lake, clips_of(lake))
    assert read.numbers == (0, 2, 3, 4)


def test_a_damaged_raw_part_publishes_nothing(lake, tmp_path, video):
    raw = ingest(lake, tmp_path, make_tar([("a.mp4", video)]))
    content = bytearray(lake.get(raw.name))
    content[len(content) // 2] ^= 1
    lake.put(raw.name, bytes(content))
    before = keys_in(lake)
    with pytest.raises(DamagedObjectError, match=raw.name):
        split(lake, max_reject_share=1.0)
    assert keys_in(lake) == before


# By reference -----------------------------------------------------------------------------------------------------


def refer(lake: Store, folder: Path, content: bytes) -> SourceObject:
    """Ingest a shard by reference, in the next revision."""
    path = folder / "source" / "yt-000003.tar"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    (info,) = Store(f"file://{path.parent}").list()
    source = SourceObject(uri=f"file://{path}", size=info.size, version=info.version)
    before = latest_revision(lake, "raw", "yt", "", 3)
    revision = before.manifest.revision + 1 if before else 0
    commit(
        lake,
        Manifest(stage="raw", dataset="yt", shard=3, revision=revision, source=source, samples_in=1, parts=()),
    )
    return source


def test_a_referenced_shard_is_split_where_it_lies_and_anew_when_it_changed(lake, tmp_path, video):
    source = refer(lake, tmp_path, make_tar([("a.mp4", video)]))
    assert split(lake).clips == 3
    assert clips_of(lake).source == source
    assert split(lake).skipped
    source = refer(lake, tmp_path, make_tar([("a.mp4", video), ("b.mp4", video)]))
    changed = split(lake)
    assert (changed.why, changed.revision, changed.clips) == ("the source changed", 1, 6)
    assert clips_of(lake).source == source
    assert all("/r001/" in part.name for part in clips_of(lake).parts)


def test_a_referenced_shard_that_changed_since_it_was_ingested_is_not_split(lake, tmp_path, video):
    refer(lake, tmp_path, make_tar([("a.mp4", video)]))
    (tmp_path / "source" / "yt-000003.tar").write_bytes(make_tar([("b.mp4", video)]))
    with pytest.raises(ChangedObjectError, match="trigger a new run"):
        split(lake)
    assert latest_revision(lake, "clips", "yt", RECIPE.hash, 3) is None


# Going on ---------------------------------------------------------------------------------------------------------

SMALL_PARTS = RECIPE.model_copy(update={"max_part_clips": 1})
"""A video a part."""
SHARD = "abxcdxef"
"""Eight samples: x is no video, and comes twice."""


@pytest.fixture(scope="module")
def short(run_ffmpeg: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """One clip."""
    path = tmp_path_factory.mktemp("short") / "v.mp4"
    run_ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x32:r=5:d=1", "-c:v", "libx264", "-pix_fmt", "yuv420p", path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def odd_shard(short: bytes) -> bytes:
    return make_tar([(f"{name}.mp4", short if name != "x" else b"junk") for name in SHARD])


@pytest.fixture(scope="module")
def undisturbed(odd_shard: bytes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a split that nothing disturbs makes of it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    lake = Store(f"file://{folder / 'lake'}", create=True)
    ingest(lake, folder, odd_shard)
    split(lake, SMALL_PARTS, max_reject_share=0.5)
    return bytes_in(lake)


class KilledError(Exception):
    """Stands for the end of the process."""


def bytes_in(lake: Store) -> dict[str, bytes]:
    return {item.key: lake.get(item.key) for item in lake.list("clips")}


def killed_behind(parts: int) -> Callable[[str], None]:
    """A progress that ends the work when so many videos were cut, and all parts before the last are published."""
    lines: list[str] = []

    def progress(line: str) -> None:
        lines.append(line)
        if sum("clips" in line for line in lines) == parts + 1:
            raise KilledError

    return progress


@pytest.mark.parametrize(("parts", "workers"), [(0, 3), (1, 1), (2, 3), (2, 1), (4, 3), (5, 1)])
def test_a_killed_split_redoes_at_most_a_part_and_ends_in_the_same_bytes(
    lake, tmp_path, odd_shard, undisturbed, parts, workers
):
    ingest(lake, tmp_path, odd_shard)
    with pytest.raises(KilledError):
        split(lake, SMALL_PARTS, max_reject_share=0.5, workers=workers, progress=killed_behind(parts))
    left = bytes_in(lake)
    assert len(left) == 2 * parts  # each with its receipt; no manifest
    lines: list[str] = []
    outcome = split(lake, SMALL_PARTS, max_reject_share=0.5, workers=workers, progress=lines.append)
    assert (outcome.why, outcome.revision, outcome.videos, outcome.rejects) == ("new", 0, 6, 2)
    assert sum("clips," in line for line in lines) == 6 - parts
    assert (f"{parts} parts are there" in lines[0]) == (parts > 0)
    assert bytes_in(lake) == undisturbed
    assert left.items() <= bytes_in(lake).items()
    manifest = clips_of(lake, SMALL_PARTS)
    assert [video.part for video in manifest.videos] == [0, 1, 2, 3, 4, 5]
    assert [(reject.key, reject.reason) for reject in manifest.rejects] == [
        ("x", "not_a_video"),
        ("x", "duplicate_key"),
    ]


class LateExecutor(ThreadPoolExecutor):
    """Begins what is given to it a while later, as on a machine that has other things to do."""

    def submit(self, *call: Any, **named: Any) -> Any:
        super().submit(time.sleep, 0.3)
        return super().submit(*call, **named)


def test_a_whole_part_that_waits_to_be_published_is_not_lost_with_an_error(lake, tmp_path, short, monkeypatch):
    monkeypatch.setattr(publication, "ThreadPoolExecutor", LateExecutor)
    ingest(lake, tmp_path, make_tar([(f"{name}.mp4", short) for name in "abc"]))
    with pytest.raises(KilledError):
        split(lake, SMALL_PARTS, workers=1, progress=killed_behind(2))
    assert len(bytes_in(lake)) == 4  # two parts and their receipts


def test_what_was_left_by_a_split_of_another_source_is_not_gone_on_with(lake, tmp_path, short):
    ingest(lake, tmp_path, make_tar([(f"{name}.mp4", short) for name in "abc"]))
    with pytest.raises(KilledError):
        split(lake, SMALL_PARTS, progress=killed_behind(2))
    ingest(lake, tmp_path, make_tar([(f"{name}.mp4", short) for name in "cde"]), revision=1)
    lines: list[str] = []
    assert split(lake, SMALL_PARTS, progress=lines.append).revision == 0
    assert [line[0] for line in lines] == ["c", "d", "e"]
    assert [read.key for read in read_clips(lake, clips_of(lake, SMALL_PARTS))] == ["c", "d", "e"]


# Retries of rejects -----------------------------------------------------------------------------------------------


class Slow(Slot):
    """Cuts videos, but finds no time for some."""

    keys: ClassVar[set[str]] = set()

    def cut(self, video: Path, **options: Any) -> Pieces:
        if options["name"].removesuffix(".mp4") in self.keys:
            raise VideoError("time_out", "expected the video within its time")
        return super().cut(video, **options)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Keys of videos that take too long, for as long as they are in this set."""
    monkeypatch.setattr(Slow, "keys", set())
    monkeypatch.setattr(Splitting, "__init__", partialmethod(Splitting.__init__, open_cutter=Slow))
    return Slow.keys


def test_a_retry_of_rejects_adds_what_passes_to_the_revision_before(lake, tmp_path, short, slow):
    files: Files = [(f"{name}.mp4", short if name != "x" else b"junk") for name in "abxcd"]
    ingest(lake, tmp_path, make_tar(files))
    slow |= {"b", "d"}
    split(lake, SMALL_PARTS, max_reject_share=0.6)
    first = clips_of(lake, SMALL_PARTS)
    assert [reject.key for reject in first.rejects] == ["b", "x", "d"]
    slow.remove("b")
    lines: list[str] = []
    outcome = split(lake, SMALL_PARTS, max_reject_share=0.6, retry_of=0, progress=lines.append)
    assert (outcome.skipped, outcome.why, outcome.revision) == (False, "its rejects were tried again", 1)
    assert [line[0] for line in lines] == ["b", "d"], "only what may pass is tried again"
    second = clips_of(lake, SMALL_PARTS)
    assert second.source == first.source
    assert second.samples_in == first.samples_in == 5
    assert second.parts[:2] == first.parts
    assert second.videos[:2] == first.videos
    assert ["/r001/" in part.name for part in second.parts] == [False, False, True]
    assert [(video.key, video.part) for video in second.videos] == [("a", 0), ("c", 1), ("b", 2)]
    assert [(reject.key, reject.reason) for reject in second.rejects] == [("x", "not_a_video"), ("d", "time_out")]
    read = {video.key: video.clips for video in read_clips(lake, second)}
    assert list(read) == ["a", "c", "b"]
    last = second.videos[-1]
    assert lake.get_range(second.parts[2].name, last.offsets[0], last.sizes[0]) == read["b"][0]


def test_each_try_of_a_source_is_a_revision_even_when_nothing_passes(lake, tmp_path, short, slow):
    ingest(lake, tmp_path, make_tar([("a.mp4", short), ("b.mp4", short)]))
    slow.add("b")
    split(lake, max_reject_share=0.5)
    for revision in (0, 1):
        assert split(lake, max_reject_share=0.5, retry_of=revision).revision == revision + 1
    manifest = clips_of(lake)
    assert (manifest.revision, len(manifest.parts), len(manifest.videos)) == (2, 1, 1)
    assert [reject.reason for reject in manifest.rejects] == ["time_out"]
    slow.clear()
    assert split(lake, max_reject_share=0.5, retry_of=2).rejects == 0
    assert [(video.key, video.part) for video in clips_of(lake).videos] == [("a", 0), ("b", 1)]


@pytest.mark.parametrize("retry_of", [None, 1, 7])
def test_a_retry_of_another_revision_than_the_highest_is_none(lake, tmp_path, short, slow, retry_of):
    ingest(lake, tmp_path, make_tar([("a.mp4", short), ("b.mp4", short)]))
    slow.add("b")
    split(lake, max_reject_share=0.5)
    assert split(lake, max_reject_share=0.5, retry_of=retry_of).skipped
    assert clips_of(lake).revision == 0


def test_rejects_that_cannot_pass_are_not_tried_again(lake, tmp_path, short):
    ingest(lake, tmp_path, make_tar([("a.mp4", short), ("b.mp4", b"junk")]))
    split(lake, max_reject_share=0.5)
    assert split(lake, max_reject_share=0.5, retry_of=0).skipped


def test_a_changed_source_is_split_whole_whatever_retry_was_asked_for(lake, tmp_path, short, slow):
    ingest(lake, tmp_path, make_tar([("a.mp4", short), ("b.mp4", short)]))
    slow.add("b")
    split(lake, max_reject_share=0.5)
    slow.clear()
    ingest(lake, tmp_path, make_tar([("b.mp4", short), ("c.mp4", short)]), revision=1)
    outcome = split(lake, retry_of=0)
    assert (outcome.why, outcome.revision) == ("the source changed", 1)
    assert [(video.key, video.part) for video in clips_of(lake).videos] == [("b", 0), ("c", 0)]


def test_a_killed_retry_goes_on_behind_its_own_parts(lake, tmp_path, short, slow):
    ingest(lake, tmp_path, make_tar([(f"{name}.mp4", short) for name in "abcde"]))
    slow |= set("bcde")
    split(lake, SMALL_PARTS, max_reject_share=1.0)
    slow.clear()
    with pytest.raises(KilledError):
        split(lake, SMALL_PARTS, retry_of=0, progress=killed_behind(2))
    lines: list[str] = []
    split(lake, SMALL_PARTS, retry_of=0, progress=lines.append)
    assert [line[0] for line in lines[1:]] == ["d", "e"]
    manifest = clips_of(lake, SMALL_PARTS)
    assert [(video.key, video.part) for video in manifest.videos] == list(zip("abcde", range(5), strict=True))
    assert [read.key for read in read_clips(lake, manifest)] == list("abcde")


def test_a_retry_that_another_writer_made_first_is_not_made_twice(lake, tmp_path, short, slow):
    ingest(lake, tmp_path, make_tar([("a.mp4", short), ("b.mp4", short)]))
    slow.add("b")
    split(lake, max_reject_share=0.5)
    slow.clear()
    done = []

    def be_second(line: str) -> None:
        if not done:
            done.append(split(lake, max_reject_share=0.5, retry_of=0, workers=1))

    outcome = split(lake, max_reject_share=0.5, retry_of=0, progress=be_second)
    assert done[0].revision == outcome.revision == clips_of(lake).revision == 1
    assert [video.key for video in clips_of(lake).videos] == ["a", "b"]


def test_a_video_that_takes_longer_than_its_time_may_pass_another_time(lake, tmp_path, short):
    ingest(lake, tmp_path, make_tar([("a.mp4", short), ("b.mp4", short)]))
    split(lake, max_reject_share=1.0, video_seconds=0.001)
    assert {(reject.key, reject.reason) for reject in clips_of(lake).rejects} == {("a", "time_out"), ("b", "time_out")}
    assert split(lake, retry_of=0).rejects == 0


def test_too_many_rejects_that_may_pass_are_not_in_the_way_of_another_try(lake, tmp_path, short, slow):
    ingest(lake, tmp_path, make_tar([(f"{key}.mp4", short) for key in "abcde"]))
    slow.update("bcd")
    with pytest.raises(RejectsMayPassError, match="3 of 5 samples"):
        split(lake, max_reject_share=0.2)
    assert latest_revision(lake, "clips", "yt", RECIPE.hash, 3) is None
    slow.clear()
    outcome = split(lake, max_reject_share=0.2)
    assert (outcome.videos, outcome.rejects, outcome.revision) == (5, 0, 0)
