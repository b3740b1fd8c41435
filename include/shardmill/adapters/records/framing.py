"""TFRecord files: each entry is its length, the length's checksum, the payload and the payload's checksum."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import google_crc32c

MAX_RECORD_BYTES = 64 * 1024 * 1024
"""A longer record is damage, whatever its checksum says: 300 frames are 0.4 MB."""
_HEADER = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")


class RecordError(ValueError):
    """A TFRecord file or a record in it is not what it should be; names the file and the offset."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A record of a TFRecord file whose checksums are right."""

    offset: int
    """Of its header in the file, in bytes."""
    payload: bytes


@dataclass(frozen=True, slots=True)
class Damage:
    """A place in a TFRecord file that cannot be read."""

    offset: int
    """Of the record's header in the file, in bytes."""
    reason: str
    ends_file: bool
    """Whether what lies behind is lost too: where the next record starts is known from an intact header alone."""


def _masked_crc(content: bytes) -> int:
    crc = int(google_crc32c.value(content))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame(payload: bytes) -> bytes:
    """Put a payload between its header and its checksum."""
    length = struct.pack("<Q", len(payload))
    return length + _CHECKSUM.pack(_masked_crc(length)) + payload + _CHECKSUM.pack(_masked_crc(payload))


class _Chunks:
    """Bytes taken from chunks of any size, with the offset reached; each byte is copied once."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._chunk = b""
        self._start = 0
        self.offset = 0

    def take(self, count: int) -> bytes:
        """Give the next ``count`` bytes, fewer only at the end."""
        taken = self._from_chunk(count)
        if len(taken) < count:
            pieces, have = [taken], len(taken)
            while have < count and (chunk := next(self._chunks, None)) is not None:
                self._chunk, self._start = chunk, 0
                pieces.append(self._from_chunk(count - have))
                have += len(pieces[-1])
            taken = b"".join(pieces)
        self.offset += len(taken)
        return taken

    def _from_chunk(self, count: int) -> bytes:
        taken = self._chunk[self._start : self._start + count]
        self._start += len(taken)
        return taken


def read_entries(content: bytes | Iterable[bytes], start: int = 0) -> Iterator[Entry | Damage]:
    """Yield the records of a TFRecord file in order, checksums verified, and the places that are damaged.

    Behind a damaged payload reading goes on. A damaged header or the cut end of a file is the last thing found.

    Args:
        content: the whole file, or its chunks in order, e.g. from ``Store.stream``.
        start: offset in the file at which the content starts.
    """
    chunks = _Chunks([content] if isinstance(content, bytes) else content)
    while header := chunks.take(_HEADER.size):
        offset = start + chunks.offset - len(header)
        if len(header) < _HEADER.size:
            yield Damage(offset, f"is cut: a record's header has {_HEADER.size} bytes, found {len(header)}", True)
            return
        length, checksum = _HEADER.unpack(header)
        if _masked_crc(header[:8]) != checksum or length > MAX_RECORD_BYTES:
            yield Damage(offset, "is damaged: expected the header of a record", True)
            return
        payload, tail = chunks.take(length), chunks.take(_CHECKSUM.size)
        if len(tail) < _CHECKSUM.size:
            yield Damage(offset, f"is cut: expected a record of {length} bytes, found {len(payload)}", True)
            return
        if _masked_crc(payload) == _CHECKSUM.unpack(tail)[0]:
            yield Entry(offset, payload)
        else:
            yield Damage(offset, "is damaged: the record's checksum does not match", False)


def read_payloads(content: bytes | Iterable[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and the bytes of each record of a TFRecord file, checksums verified.

    Raises:
        RecordError: where the file is cut or damaged.
    """
    for entry in read_entries(content):
        if isinstance(entry, Damage):
            what, _, rest = entry.reason.partition(":")
            raise RecordError(f"{name} {what} at offset {entry.offset}:{rest}; fetch it again")
        yield entry.offset, entry.payload
