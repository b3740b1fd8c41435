"""Read the header block of a tar member strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BLOCK = 512
_NAME, _PREFIX = slice(0, 100), slice(345, 500)
_CHECKSUM = slice(148, 156)
_SIZE = slice(124, 136)
_TYPE = slice(156, 157)
_MAGIC = slice(257, 263)
_POSIX = b"ustar\0"
_MOST_DIGITS = 19
REGULAR, DIRECTORY, SPECIAL = "regular", "directory", "special"
LONG_NAME, LONG_LINK, PAX, GLOBAL_PAX = "long name", "long link", "pax", "global pax"
_KINDS = {b"0": REGULAR, b"\0": REGULAR, b"7": REGULAR, b"5": DIRECTORY, b"x": PAX, b"g": GLOBAL_PAX}
_KINDS |= {b"L": LONG_NAME, b"K": LONG_LINK}
_SPECIAL = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a named pipe"}


class DamagedTarError(RuntimeError):
    """A tar is not whole; the message names it and the offset."""


class TarHeaderError(ValueError):
    """A header block is damaged, or of a kind that no shard holds."""


@dataclass(frozen=True)
class TarHeader:
    """What a header block says about its member."""

    kind: str
    size: int
    """Bytes of the member's content, padding left out."""
    name: str = ""
    """As it stands in the block; what is no UTF-8 as lone surrogates."""
    what: str = ""
    """Of a special member: what it is, e.g. `a symbolic link`."""

    @property
    def padded(self) -> int:
        """Bytes that the content takes in the archive."""
        return -(-self.size // BLOCK) * BLOCK


def _number(text: bytes) -> int:
    if text[0] in (0x80, 0xFF):  # GNU's base 256, for sizes from 8 GiB on
        return int.from_bytes(text[1:], "big", signed=text[0] == 0xFF)
    digits = text.split(b"\0", 1)[0].strip()
    return int(digits or b"0", 8)


def text_of(name: bytes) -> str:
    """Decode a name up to its first zero byte."""
    return name.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def parse_header(block: bytes) -> TarHeader:
    """Read a header block.

    Raises:
        TarHeaderError: where checksum, size or kind of the member are not as they must be.
    """
    try:
        expected, size = _number(block[_CHECKSUM]), _number(block[_SIZE])
    except ValueError as error:
        raise TarHeaderError("expected octal numbers in the header, found something else") from error
    unsigned = sum(block) - sum(block[_CHECKSUM]) + 8 * 32
    if unsigned != expected:
        raise TarHeaderError(f"the header's checksum is {expected}, its bytes give {unsigned}")
    if size < 0:
        raise TarHeaderError(f"the header's size is negative: {size}")
    name = text_of(block[_NAME])
    if block[_MAGIC] == _POSIX and (prefix := text_of(block[_PREFIX])):
        name = f"{prefix}/{name}"
    if what := _SPECIAL.get(block[_TYPE]):
        return TarHeader(SPECIAL, 0, name, what)
    kind = _KINDS.get(block[_TYPE])
    if kind is None:
        raise TarHeaderError(f"expected a file, found a member of type {block[_TYPE]!r} (sparse, …)")
    return TarHeader(kind, 0 if kind == DIRECTORY else size, name)


def pax_values(content: bytes) -> Mapping[str, bytes]:
    """Read the records of a pax header: the values by keyword.

    Raises:
        TarHeaderError: where the records are damaged, or say that the member's content is not a plain file's.
    """
    found: dict[str, bytes] = {}
    position = 0
    while position < len(content):
        length_text, separator, _ = content[position : position + 20].partition(b" ")
        if not separator or not length_text.isdigit() or int(length_text) <= len(length_text) + 1:
            raise TarHeaderError("expected pax records ('length key=value'), found something else")
        end = position + int(length_text)
        if end > len(content) or content[end - 1 : end] != b"\n":
            raise TarHeaderError("a pax record is cut short")
        name, _, value = content[position + len(length_text) + 1 : end - 1].partition(b"=")
        found[name.decode("utf-8", "surrogateescape")] = value
        position = end
    size = found.get("size", b"0")
    if not size.isdigit() or len(size) > _MOST_DIGITS:
        raise TarHeaderError(f"expected a number as pax size, found {size[:40]!r}")
    if any(name.startswith("GNU.sparse.") for name in found):
        raise TarHeaderError("expected a file, found a sparse one")
    return found
