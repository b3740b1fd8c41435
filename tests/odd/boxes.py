"""Take an mp4 or mov apart and put it together again, with boxes that no writer would write."""

from __future__ import annotations

import struct
from collections.abc import Callable

_FOLDERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts"}
_HEADER = 8


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", _HEADER + len(content), kind) + content


def changed(content: bytes, kind: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Change the content of each box of a kind; the sizes of the boxes around it follow. Moov must come last."""
    parts, position = [], 0
    while position < len(content):
        size, found = struct.unpack_from(">I4s", content, position)
        inner = content[position + _HEADER : position + size]
        if found == kind:
            inner = change(inner)
        elif found in _FOLDERS:
            inner = changed(inner, kind, change)
        parts.append(box(found, inner))
        position += size
    return b"".join(parts)


def put(content: bytes, kind: bytes, offset: int, value: bytes) -> bytes:
    """Overwrite bytes within each box of a kind."""
    return changed(content, kind, lambda inner: inner[:offset] + value + inner[offset + len(value) :])


def full(version_and_flags: int, *numbers: int) -> bytes:
    """Give the content of a full box: 32-bit numbers behind version and flags."""
    return struct.pack(f">{1 + len(numbers)}I", version_and_flags, *numbers)


def alias_to(path: str) -> bytes:
    """Give a `dref` whose one entry is a Macintosh alias of another file."""
    name = path.encode()
    short = name.rpartition(b"/")[2][:63]
    record = bytes(10) + b"\x01/" + bytes(26) + bytes(12) + bytes([len(short)]) + short.ljust(63, b"\0") + bytes(16)
    record += struct.pack(">HH", 1, 1) + bytes(16)
    record += struct.pack(">HH", 2, len(name)) + name + b"\0" * (len(name) % 2)
    record += struct.pack(">hH", -1, 0)
    return full(0, 1) + box(b"alis", full(0) + record)


def url_to(address: str) -> bytes:
    """Give a `dref` whose one entry is the address of another file."""
    return full(0, 1) + box(b"url ", full(0) + address.encode() + b"\0")


def reference_movie(address: str) -> bytes:
    """Give a QuickTime movie that is nothing but the address of another."""
    rdrf = full(0) + b"url " + struct.pack(">I", len(address) + 1) + address.encode() + b"\0"
    moov = box(b"moov", box(b"rmra", box(b"rmda", box(b"rdrf", rdrf))))
    return box(b"ftyp", b"qt  \0\0\0\0qt  ") + moov


def nested(depth: int) -> bytes:
    """Give a movie whose boxes lie in one another."""
    content = b""
    for _ in range(depth):
        content = box(b"moov", content)
    return box(b"ftyp", b"isom\0\0\2\0isom") + content


def raw_movie(frames: int, chunk: int, seconds_of_a_frame: tuple[int, int]) -> bytes:
    """Give a mov of 2×2 pixels, in which all chunks are the same bytes: far more frames than data.

    Args:
        frames: a multiple of ``chunk``.
        chunk: frames of a chunk.
        seconds_of_a_frame: as ticks, and ticks of a second.
    """
    ticks, timescale = seconds_of_a_frame
    frame = b"\x40\x80\xc0" * 2 + b"\0\0"  # raw rows of mov are padded to 2 bytes
    frame = frame[:6] * 2
    ftyp = box(b"ftyp", b"qt  \0\0\0\0qt  ")
    mdat = box(b"mdat", frame * chunk)
    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    length = frames * ticks
    description = struct.pack(
        ">6xHHH4s2I2H2IIH32shh", 1, 0, 0, b"test", 0, 0, 2, 2, 0x480000, 0x480000, 0, 1, b"\0" * 32, 24, -1
    )
    stbl = (
        box(b"stsd", full(0, 1) + box(b"raw ", description))
        + box(b"stts", full(0, 1, frames, ticks))
        + box(b"stsc", full(0, 1, 1, chunk, 1))
        + box(b"stsz", full(0, len(frame), frames))
        + box(b"stco", full(0, frames // chunk) + struct.pack(">I", len(ftyp) + _HEADER) * (frames // chunk))
    )
    minf = box(b"vmhd", full(1, 0, 0)) + box(b"dinf", box(b"dref", full(0, 1) + box(b"url ", full(1))))
    mdia = box(b"mdhd", full(0, 0, 0, timescale, length, 0)) + box(b"hdlr", full(0) + b"mhlrvide" + bytes(12) + b"\0")
    tkhd = full(7, 0, 0, 1, 0, length, 0, 0, 0, 0) + matrix + struct.pack(">2I", 2 << 16, 2 << 16)
    trak = box(b"tkhd", tkhd) + box(b"mdia", mdia + box(b"minf", minf + box(b"stbl", stbl)))
    mvhd = full(0, 0, 0, timescale, length, 0x10000) + b"\1\0" + bytes(10) + matrix + bytes(24) + struct.pack(">I", 2)
    return ftyp + mdat + box(b"moov", box(b"mvhd", mvhd) + box(b"trak", trak))
