from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from shardmill.adapters.lake import file_sha256, put_part
from shardmill.adapters.store import DamagedObjectError, Store
from shardmill.adapters.tar import Clip, PartFile, read_clips, read_samples, split_name
from shardmill.adapters.tar_check import check_tar
from shardmill.core.tar_header import DamagedTarError
from shardmill.specs.manifest import Manifest, Part, SourceObject


def write_tar(path: Path, members: list[tuple[str, bytes]], tar_format: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w", format=tar_format) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


MEMBERS = [
    ("---a.info.json", b'{"title": "<i>A</i>"}'),
    ("---a.mp4", b"A" * 700),
    ("---a.txt", b"text"),
    ("b.webm", b"B" * 512),
    ("c.txt", b"no video"),
]


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_a_whole_tar_passes_the_check(tmp_path, tar_format):
    assert check_tar(write_tar(tmp_path / "x.tar", MEMBERS, tar_format), "x") == 5


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_pass_the_check(tmp_path, tar_format):
    path = write_tar(tmp_path / "x.tar", [("k" * 300 + ".mp4", b"x"), ("ü" * 120 + ".mp4", b"y")], tar_format)
    assert check_tar(path, "x") == 2
    assert [len(sample.key) for sample in read_samples(path)] == [300, 120]


def test_a_folder_entry_passes_the_check(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        info = tarfile.TarInfo("folder")
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    assert check_tar(tmp_path / "x.tar", "x") == 0


def test_every_cut_of_a_tar_is_found(tmp_path):
    whole = write_tar(tmp_path / "x.tar", MEMBERS).read_bytes()
    end = whole.rstrip(b"\0")
    content = -(-len(end) // 512) * 512
    for length in [*range(0, content + 1, 512), 100, content + 512]:  # the last leaves one zero block
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(DamagedTarError, match="yt-000003"):
            check_tar(tmp_path / "cut.tar", "yt-000003")


def test_a_flipped_header_byte_is_found_and_its_offset_named(tmp_path):
    path = write_tar(tmp_path / "x.tar", MEMBERS)
    damaged = bytearray(path.read_bytes())
    damaged[1024 + 3] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DamagedTarError, match="x is damaged at byte 1024: the header's checksum"):
        check_tar(path, "x")


def test_a_link_is_refused(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        info = tarfile.TarInfo("a.mp4")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(DamagedTarError, match="expected a regular file"):
        check_tar(tmp_path / "x.tar", "x")


def test_a_tar_behind_a_tar_is_found(tmp_path):
    path = write_tar(tmp_path / "x.tar", MEMBERS)
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(DamagedTarError, match="two tars in one"):
        check_tar(path, "x")


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


def test_samples_come_in_order_with_their_video_and_info(tmp_path):
    samples = list(read_samples(write_tar(tmp_path / "x.tar", MEMBERS)))
    assert [(s.key, s.name, len(s.video), s.info) for s in samples] == [
        ("---a", "---a.mp4", 700, b'{"title": "<i>A</i>"}'),
        ("b", "b.webm", 512, b""),
        ("c", "", 0, b""),
    ]


def test_no_member_is_dropped_in_silence(tmp_path):
    members = [("a.mp4", b"1"), ("a.mp4", b"2"), ("README", b""), ("b.mp4", b"3"), ("a.mp4", b"4")]
    samples = list(read_samples(write_tar(tmp_path / "x.tar", members)))
    assert [(s.key, s.video) for s in samples] == [
        ("a", b"1"),
        ("a", b"2"),
        ("README", b""),
        ("b", b"3"),
        ("a", b"4"),
    ]


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
    assert check_tar(first.path, "1") == 12
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
