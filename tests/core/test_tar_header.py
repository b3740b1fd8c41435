from __future__ import annotations

import tarfile

import pytest

from shardmill.core.tar_header import DIRECTORY, LONG_NAME, PAX, REGULAR, TarHeaderError, parse_header, pax_size


def block(kind: bytes = tarfile.REGTYPE, size: int = 5, name: str = "a.mp4") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(b"0", REGULAR), (b"\0", REGULAR), (b"5", DIRECTORY), (b"L", LONG_NAME), (b"x", PAX), (b"g", PAX)],
)
def test_kinds_that_a_shard_may_hold(kind, expected):
    assert parse_header(block(kind)).kind == expected


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"6", b"S", b"Z"])
def test_links_devices_and_sparse_files_are_refused(kind):
    with pytest.raises(TarHeaderError, match="expected a regular file"):
        parse_header(block(kind))


def test_sizes_from_8_gib_on_are_read():
    assert parse_header(block(size=9 * 2**30)).size == 9 * 2**30


def test_content_is_padded_to_whole_blocks():
    assert [parse_header(block(size=size)).padded for size in (0, 1, 512, 513)] == [0, 512, 512, 1024]


@pytest.mark.parametrize("position", [0, 100, 124, 130, 148, 156, 257, 345])
def test_a_flipped_bit_is_found(position):
    damaged = bytearray(block())
    damaged[position] ^= 1
    with pytest.raises(TarHeaderError):
        parse_header(bytes(damaged))


def test_a_pax_header_may_set_the_size():
    assert pax_size(b"20 size=12345678901\n") == 12345678901
    assert pax_size(b"12 path=abc\n12 size=512\n") == 512
    assert pax_size(b"12 path=abc\n") is None
    assert pax_size(b"") is None


@pytest.mark.parametrize("content", [b"junk", b"99 path=a\n", b"12 path=abcX", b"12 size=abc\n"])
def test_damaged_pax_records_are_refused(content):
    with pytest.raises(TarHeaderError):
        pax_size(content)
