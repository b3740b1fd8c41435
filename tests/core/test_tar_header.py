from __future__ import annotations

import tarfile

import pytest

from shardmill.core.tar_header import (
    DIRECTORY,
    GLOBAL_PAX,
    LONG_NAME,
    PAX,
    REGULAR,
    SPECIAL,
    TarHeaderError,
    parse_header,
    pax_values,
)


def block(kind: bytes = tarfile.REGTYPE, size: int = 5, name: str = "a.mp4") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(b"0", REGULAR), (b"\0", REGULAR), (b"5", DIRECTORY), (b"L", LONG_NAME), (b"x", PAX), (b"g", GLOBAL_PAX)],
)
def test_kinds_that_a_shard_may_hold(kind, expected):
    assert parse_header(block(kind)).kind == expected


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"6"])
def test_links_and_devices_have_no_content(kind):
    header = parse_header(block(kind))
    assert (header.kind, header.size, header.name, bool(header.what)) == (SPECIAL, 0, "a.mp4", True)


@pytest.mark.parametrize("kind", [b"S", b"M", b"V", b"Z"])
def test_sparse_and_unknown_members_are_refused(kind):
    with pytest.raises(TarHeaderError, match="expected a file, found a member of type"):
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


def test_pax_records_are_read():
    assert pax_values(b"20 size=12345678901\n") == {"size": b"12345678901"}
    assert pax_values(b"12 path=abc\n12 size=512\n") == {"path": b"abc", "size": b"512"}
    assert pax_values(b"") == {}


@pytest.mark.parametrize("content", [b"junk", b"99 path=a\n", b"12 path=abcX", b"12 size=abc\n"])
def test_damaged_pax_records_are_refused(content):
    with pytest.raises(TarHeaderError):
        pax_values(content)
