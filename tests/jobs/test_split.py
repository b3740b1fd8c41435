from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from shardmill.adapters import tar as shards
from shardmill.adapters.lake import commit, latest_revision, put_part
from shardmill.adapters.store import MissingObjectError, Store
from shardmill.adapters.tar import read_clips
from shardmill.core.rejects import TooManyRejectsError
from shardmill.core.tar_header import DamagedTarError
from shardmill.jobs.split import EmptyShardError, Outcome, split_shard
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
    part = put_part(lake, path, folder=f"raw/yt/000003/r{revision:03d}", stem="yt-000003", suffix=".tar", samples=1)
    source = SourceObject(uri="file:///elsewhere/yt-000003.tar", size=part.size, version=f"v{revision}")
    raw = Manifest(stage="raw", dataset="yt", shard=3, revision=revision, source=source, samples_in=1, parts=(part,))
    commit(lake, raw)
    return part


def split(lake: Store, *, max_reject_share: float = 0.0, workers: int = 2, lines: list[str] | None = None) -> Outcome:
    progress = lines.append if lines is not None else lambda line: None
    return split_shard(lake, "yt", 3, RECIPE, max_reject_share=max_reject_share, workers=workers, progress=progress)


def clips_of(lake: Store) -> Manifest:
    revision = latest_revision(lake, "clips", "yt", RECIPE.hash, 3)
    assert revision is not None
    return revision.manifest


def keys_in(lake: Store) -> set[str]:
    return {item.key for item in lake.list("")}


def test_a_shard_becomes_clips_with_their_papers(lake, tmp_path, video):
    info = b'{"title": "A & <b>B</b>",  "labels": ["street", "people"]}'
    raw = ingest(lake, tmp_path, make_tar([("./---a.info.json", info), ("./---a.mp4", video), ("./---a.txt", b"x")]))
    lines: list[str] = []
    outcome = split(lake, lines=lines)
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
    assert manifest.source.uri == lake.uri_of(raw.name)
    assert manifest.source.version == latest_revision(lake, "raw", "yt", "", 3).sha256
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


def test_any_number_of_workers_gives_the_same_bytes(tmp_path, video):
    files = [(f"{name}.mp4", video if name != "c" else b"junk") for name in "abcdefg"]
    parts = []
    for workers in (1, 3):
        lake = Store(f"file://{tmp_path}/lake-{workers}", create=True)
        ingest(lake, tmp_path, make_tar(files))
        split(lake, workers=workers, max_reject_share=0.5)
        manifest = clips_of(lake)
        parts.append((manifest.parts, manifest.videos, manifest.rejects))
    assert parts[0] == parts[1]
    assert [video.key for video in parts[0][1]] == list("abdefg")


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


def test_a_full_part_is_closed_between_videos(lake, tmp_path, video, monkeypatch):
    monkeypatch.setattr(shards, "PART_CLIPS", 4)
    ingest(lake, tmp_path, make_tar([(f"{name}.mp4", video) for name in "abc"]))
    split(lake)
    manifest = clips_of(lake)
    assert [part.samples for part in manifest.parts] == [6, 3]
    assert [read.key for read in read_clips(lake, manifest)] == ["a", "b", "c"]


def test_scratch_is_empty_afterwards_also_behind_a_failure(lake, tmp_path, video):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    ingest(lake, tmp_path, make_tar([("a.mp4", video), ("b.mp4", b"junk")]))
    with pytest.raises(TooManyRejectsError):
        split_shard(lake, "yt", 3, RECIPE, max_reject_share=0.0, scratch=scratch)
    split_shard(lake, "yt", 3, RECIPE, max_reject_share=1.0, scratch=scratch)
    assert list(scratch.iterdir()) == []


def test_the_work_stops_when_the_caller_gives_up(lake, tmp_path, video):
    ingest(lake, tmp_path, make_tar([(f"{index}.mp4", video) for index in range(40)]))
    lines: list[str] = []

    def give_up(line: str) -> None:
        lines.append(line)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        split_shard(lake, "yt", 3, RECIPE, max_reject_share=0.0, progress=give_up)
    assert len(lines) == 1
    assert latest_revision(lake, "clips", "yt", RECIPE.hash, 3) is None
