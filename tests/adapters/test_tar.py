from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from shardmill.adapters.lake import file_sha256, put_part
from shardmill.adapters.store import DamagedObjectError, Store
from shardmill.adapters.tar import Clip, PartFile, read_clips, split_name
from shardmill.adapters.tar_stream import TarStream
from shardmill.specs.manifest import Manifest, Part, SourceObject


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("---a.info.json", ("---a", "info.json")),
        ("./---a.MP4", ("---a", "mp4")),
        ("f.older/b.mp4", ("f.older/b", "mp4")),
        ("b.f137.mp4", ("b", "f137.mp4")),
        ("README", ("README", "")),
        ("dir/.hidden", ("dir/.hidden", "")),
        ("../../x.mp4", ("../../x", "mp4")),
        ("a\nb.mp4", ("a\nb", "mp4")),
    ],
)
def test_names_are_cut_at_the_first_dot_of_their_base_name(name, expected):
    assert split_name(name) == expected


ROOM = {"max_bytes": 10**9, "max_clips": 10**6}


def write_part(path: Path) -> PartFile:
    part = PartFile(path, **ROOM)
    for number in (0, 1, 3):
        part.write("---a", Clip(number, b"clip %d" % number, b'{"format": {}}', b'{"title": "A"}'))
    part.write("dir/b", Clip(0, b"other", b"{}", b"{}"))
    part.close()
    return part


def clips_manifest(lake: Store, path: Path, samples: int) -> Manifest:
    sha256 = file_sha256(path)
    name = f"clips/x/h/000000/r000/x-clips-000000-000000-{sha256[:12]}.tar"
    part = Part(name=name, size=path.stat().st_size, sha256=sha256, samples=samples)
    put_part(lake, part, path)
    source = SourceObject(uri="file:///x", size=0, version="v")
    return Manifest(stage="clips", dataset="x", shard=0, revision=0, source=source, samples_in=2, parts=(part,))


def test_parts_are_the_same_bytes_each_time_and_whole_tars(tmp_path):
    first, second = write_part(tmp_path / "1.tar"), write_part(tmp_path / "2.tar")
    assert first.path.read_bytes() == second.path.read_bytes()
    stream = TarStream([first.path.read_bytes()], "1")
    assert sum(1 for _ in stream.members()) == 12
    with tarfile.open(first.path) as tar:
        members = tar.getmembers()
    assert [member.name for member in members[:4]] == [
        "---a/000000.info.json",
        "---a/000000.mp4",
        "---a/000000.mp4.json",
        "---a/000001.info.json",
    ]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}


def test_clips_are_read_back_video_by_video(lake, tmp_path):
    manifest = clips_manifest(lake, write_part(tmp_path / "1.tar").path, 4)
    videos = list(read_clips(lake, manifest))
    assert [(v.key, v.numbers, v.clips, v.info) for v in videos] == [
        ("---a", (0, 1, 3), (b"clip 0", b"clip 1", b"clip 3"), {"title": "A"}),
        ("dir/b", (0,), (b"other",), {}),
    ]


def test_a_part_that_is_not_what_the_manifest_says_is_refused(lake, tmp_path):
    manifest = clips_manifest(lake, write_part(tmp_path / "1.tar").path, 4)
    part = manifest.parts[0]
    wrong_count = manifest.model_copy(update={"parts": (part.model_copy(update={"samples": 5}),)})
    wrong_bytes = manifest.model_copy(update={"parts": (part.model_copy(update={"sha256": "0" * 64}),)})
    for wrong in (wrong_count, wrong_bytes):
        with pytest.raises(DamagedObjectError, match=rf"{part.name}: expected"):
            list(read_clips(lake, wrong))


def test_a_part_that_was_cut_short_is_refused(lake, tmp_path):
    manifest = clips_manifest(lake, write_part(tmp_path / "1.tar").path, 4)
    lake.put(manifest.parts[0].name, lake.get(manifest.parts[0].name)[:700])
    with pytest.raises(DamagedObjectError):
        list(read_clips(lake, manifest))


def test_nothing_of_a_damaged_part_is_given_out(lake, tmp_path):
    manifest = clips_manifest(lake, write_part(tmp_path / "1.tar").path, 4)
    content = bytearray(lake.get(manifest.parts[0].name))
    content[-11_000] ^= 1  # behind every clip
    lake.put(manifest.parts[0].name, bytes(content))
    with pytest.raises(DamagedObjectError):
        next(read_clips(lake, manifest))


def test_only_the_parts_asked_for_are_read(lake, tmp_path):
    first = clips_manifest(lake, write_part(tmp_path / "1.tar").path, 4).parts[0]
    lost = first.model_copy(update={"name": "clips/lost.tar"})
    manifest = clips_manifest(lake, tmp_path / "1.tar", 4).model_copy(update={"parts": (lost, first, lost)})
    assert [video.key for video in read_clips(lake, manifest, {1})] == ["---a", "dir/b"]
    assert list(read_clips(lake, manifest, set())) == []


def test_the_places_of_clips_are_those_of_their_very_bytes(tmp_path):
    part = PartFile(tmp_path / "1.tar", **ROOM)
    clips = {"k" * 200: [b"first", b"second" * 300], "ü/\n.b": [b"", b"third"]}
    for key, contents in clips.items():
        for number, content in enumerate(contents):
            part.write(key, Clip(2 * number, content, b"{}", b'{"mp4": 1}'))
    places = part.close()
    whole = part.path.read_bytes()
    found = {key: [whole[at.offset : at.offset + at.size] for at in places[key]] for key in places}
    assert found == clips


def test_a_part_is_full_by_clips_or_by_bytes(tmp_path):
    part = PartFile(tmp_path / "1.tar", max_bytes=10**9, max_clips=2)
    part.write("a", Clip(0, b"x", b"{}", b"{}"))
    assert not part.is_full
    part.write("a", Clip(1, b"x", b"{}", b"{}"))
    assert part.is_full
    part.close()
    part = PartFile(tmp_path / "2.tar", max_bytes=10_240, max_clips=10)
    part.write("a", Clip(0, b"x", b"{}", b"{}"))
    assert not part.is_full
    part.write("a", Clip(1, bytes(40_000), b"{}", b"{}"))
    assert part.is_full
    part.close()
