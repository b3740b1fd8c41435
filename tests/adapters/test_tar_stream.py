from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator

import pytest

from shardmill.adapters.tar_stream import Member, TarStream
from shardmill.core.tar_header import DamagedTarError

MEMBERS = [
    ("---a.info.json", b'{"title": "<i>A</i>"}'),
    ("---a.mp4", b"A" * 700),
    ("---a.txt", b"text"),
    ("b.webm", b"B" * 512),
    ("c.txt", b"no video"),
]


def make_tar(members: list[tuple[str, bytes]], tar_format: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def in_chunks(content: bytes, size: int) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


def read(content: bytes, size: int = 700) -> list[tuple[str, bytes]]:
    stream = TarStream(in_chunks(content, size), "x")
    return [(member.name, b"".join(stream.content())) for member in stream.members()]


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("size", [1, 511, 512, 513, 10**6])
def test_members_come_whole_however_the_bytes_come(tar_format, size):
    assert read(make_tar(MEMBERS, tar_format), size) == MEMBERS


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_come_whole(tar_format):
    members = [("k" * 300 + ".mp4", b"x"), ("ü" * 120 + ".mp4", b"y"), ("d/" * 80 + "short.mp4", b"z")]
    assert read(make_tar(members, tar_format)) == members


def test_names_of_200_characters_come_whole_in_the_oldest_posix_format():
    members = [("d" * 90 + "/" + "k" * 95, b"x")]
    assert read(make_tar(members, tarfile.USTAR_FORMAT)) == members


def test_names_that_are_no_utf_8_are_kept_apart():
    content = make_tar([("a?.mp4", b"1"), ("b?.mp4", b"2")])
    damaged = bytearray(content)
    for start, byte in ((0, 0xFE), (1024, 0xFF)):
        damaged[start + 1] = byte
        header = bytes(damaged[start : start + 512])
        checksum = sum(header[:148]) + 8 * 32 + sum(header[156:])
        damaged[start + 148 : start + 156] = b"%06o\0 " % checksum
    assert [name for name, _ in read(bytes(damaged))] == ["a\udcfe.mp4", "b\udcff.mp4"]


def test_content_that_nobody_asks_for_is_skipped():
    stream = TarStream(in_chunks(make_tar(MEMBERS), 100), "x")
    assert [(member.name, member.size) for member in stream.members()] == [(n, len(c)) for n, c in MEMBERS]


def test_a_folder_is_passed_over():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("folder")
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    assert read(buffer.getvalue()) == []


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.FIFOTYPE, "a named pipe"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
    ],
)
def test_what_is_no_file_is_named_and_has_no_content(kind, what):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("a.mp4")
        info.type, info.linkname, info.size = kind, "/etc/passwd", 4096
        tar.addfile(info)
        other = tarfile.TarInfo("b.mp4")
        tar.addfile(other)
    assert list(TarStream([buffer.getvalue()], "x").members()) == [Member("a.mp4", 0, what), Member("b.mp4", 0)]


def test_every_cut_of_a_tar_is_found():
    whole = make_tar(MEMBERS)
    content = -(-len(whole.rstrip(b"\0")) // 512) * 512
    for length in [*range(0, content + 1, 512), 100, content + 512]:  # the last leaves one zero block
        with pytest.raises(DamagedTarError, match="x is cut short at byte"):
            read(whole[:length])


def test_a_flipped_header_byte_is_found_and_its_offset_named():
    damaged = bytearray(make_tar(MEMBERS))
    damaged[1024 + 3] ^= 1
    with pytest.raises(DamagedTarError, match="x is damaged at byte 1024: the header's checksum"):
        read(bytes(damaged))


def test_a_tar_behind_a_tar_is_found():
    with pytest.raises(DamagedTarError, match="two tars in one"):
        read(make_tar(MEMBERS) * 2)


def test_the_second_zero_block_must_be_there():
    whole = make_tar(MEMBERS)
    content = -(-len(whole.rstrip(b"\0")) // 512) * 512
    with pytest.raises(DamagedTarError, match="second of two zero blocks"):
        read(whole[: content + 512] + b"x" * 512)


def test_sparse_files_and_names_set_for_all_are_refused():
    for headers in ({"GNU.sparse.major": "1", "GNU.sparse.name": "a.mp4"},):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            info = tarfile.TarInfo("a.mp4")
            info.pax_headers = headers
            tar.addfile(info)
        with pytest.raises(DamagedTarError, match="expected a file, found a sparse one"):
            read(buffer.getvalue())
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"path": "all.mp4"}) as tar:
        tar.addfile(tarfile.TarInfo("a.mp4"))
    with pytest.raises(DamagedTarError, match="set for all of the tar"):
        read(buffer.getvalue())


def test_a_place_is_told_by_the_bytes_before_it():
    content = make_tar(MEMBERS)
    stream = TarStream(in_chunks(content, 333), "x")
    for member in stream.members():
        assert content[stream.starts :].startswith(member.name.encode())
        assert stream.sha256 == hashlib.sha256(content[: stream.starts]).hexdigest()
    assert (stream.starts, stream.sha256) == (len(content), hashlib.sha256(content).hexdigest())
