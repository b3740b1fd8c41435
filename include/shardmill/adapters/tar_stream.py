"""Read a tar as a stream, strictly: Python's tarfile ends silently where one is damaged or cut at a member's end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from shardmill.core.tar_header import (
    BLOCK,
    GLOBAL_PAX,
    LONG_LINK,
    LONG_NAME,
    PAX,
    REGULAR,
    SPECIAL,
    DamagedTarError,
    TarHeader,
    TarHeaderError,
    parse_header,
    pax_values,
    text_of,
)

_HEADER_LIMIT = 1024 * 1024
_PIECE = 1024 * 1024
_ZERO = bytes(BLOCK)


@dataclass(frozen=True)
class Member:
    """A file of the tar, or what stands in the place of one."""

    name: str
    size: int
    """Bytes of its content."""
    what: str = ""
    """What it is if it is no file: `a symbolic link`, `a device`, …; then it has no content."""


class TarStream:
    """Takes a tar's bytes once, from the first to the last."""

    def __init__(self, chunks: Iterable[bytes], name: str) -> None:
        """Begin.

        Args:
            name: what messages call the tar.
        """
        self._chunks, self._name = iter(chunks), name
        self._buffer = memoryview(b"")
        self._digest = hashlib.sha256()
        self.offset = 0
        """Bytes read so far."""
        self.starts = 0
        """Where the newest member's first header begins."""
        self._starts_digest = self._digest
        self._content = 0  # bytes of the newest member's content that nobody has asked for yet
        self._padding = 0

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes before the newest member; behind the end, of all."""
        return self._starts_digest.hexdigest()

    def _pieces(self, count: int) -> Iterator[memoryview]:
        """Yield exactly so many bytes."""
        wanted = count
        while wanted:
            if not self._buffer:
                self._buffer = memoryview(next(self._chunks, b""))
                if not self._buffer:
                    raise DamagedTarError(
                        f"{self._name} is cut short at byte {self.offset}: expected {wanted} bytes more of a member, "
                        "a header or two zero blocks"
                    )
            piece = self._buffer[: min(wanted, _PIECE)]
            self._buffer = self._buffer[len(piece) :]
            self._digest.update(piece)
            self.offset += len(piece)
            wanted -= len(piece)
            yield piece

    def _read(self, count: int) -> bytes:
        return b"".join(self._pieces(count))

    def content(self) -> Iterator[memoryview]:
        """Yield the content of the newest member, once."""
        count, self._content = self._content, 0
        yield from self._pieces(count)

    def members(self) -> Iterator[Member]:
        """Yield the members in order; content that nobody asks for is skipped.

        Raises:
            DamagedTarError: where a header or the end is not as it must be.
        """
        while True:
            self._skip()
            self.starts, self._starts_digest = self.offset, self._digest.copy()
            block = self._read(BLOCK)
            if block == _ZERO:
                self._read_end()
                return
            try:
                header = self._whole_header(block)
            except TarHeaderError as error:
                raise DamagedTarError(f"{self._name} is damaged at byte {self.starts}: {error}") from error
            self._content, self._padding = header.size, header.padded - header.size
            if header.kind in (REGULAR, SPECIAL):
                yield Member(header.name, header.size, header.what)

    def _skip(self) -> None:
        for _ in self._pieces(self._content + self._padding):
            pass
        self._content = self._padding = 0

    def _whole_header(self, block: bytes) -> TarHeader:
        """Read the headers before a member's content: its own, and those that lengthen it."""
        name, pax = "", dict[str, bytes]()
        while (header := parse_header(block)).kind in (LONG_NAME, LONG_LINK, PAX, GLOBAL_PAX):
            if header.size > _HEADER_LIMIT:
                raise TarHeaderError(f"a {header.kind} header of {header.size} B is longer than {_HEADER_LIMIT} B")
            text = self._read(header.padded)[: header.size]
            if header.kind == LONG_NAME:
                name = text_of(text)
            elif header.kind == PAX:
                pax.update(pax_values(text))
            elif header.kind == GLOBAL_PAX and {"path", "size"} & set(pax_values(text)):
                raise TarHeaderError("expected names and sizes at their members, found them set for all of the tar")
            block = self._read(BLOCK)
        return _completed(header, name, pax)

    def _read_end(self) -> None:
        if self._read(BLOCK) != _ZERO:
            raise DamagedTarError(
                f"{self._name} is damaged at byte {self.starts + BLOCK}: "
                "expected the second of two zero blocks at the end"
            )
        for chunk in self._rest():
            if bytes(chunk).strip(b"\0"):
                raise DamagedTarError(
                    f"{self._name} holds data behind its end, after byte {self.starts}: is it two tars in one?"
                )
        self.starts, self._starts_digest = self.offset, self._digest

    def _rest(self) -> Iterator[memoryview]:
        while self._buffer or (chunk := next(self._chunks, b"")):
            self._buffer = self._buffer or memoryview(chunk)
            yield from self._pieces(len(self._buffer))


def _completed(header: TarHeader, name: str, pax: Mapping[str, bytes]) -> TarHeader:
    size = int(pax["size"]) if "size" in pax and header.kind == REGULAR else header.size
    return TarHeader(header.kind, size, text_of(pax["path"]) if "path" in pax else name or header.name, header.what)
