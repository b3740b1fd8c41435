"""Read the header block of a tar member strictly."""

from __future__ import annotations

from dataclasses import dataclass

BLOCK = 512
_CHECKSUM = slice(148, 156)
_SIZE = slice(124, 136)
_TYPE = slice(156, 157)
REGULAR, DIRECTORY, LONG_NAME, PAX = "regular", "directory", "long name", "pax"
_KINDS = {b"0": REGULAR, b"\0": REGULAR, b"5": DIRECTORY, b"L": LONG_NAME, b"x": PAX, b"g": PAX}


class DamagedTarError(RuntimeError):
    """A tar is not whole; the message names it and the offset."""


class TarHeaderError(ValueError):
    """A header block is damaged, or names what a shard may not hold."""


@dataclass(frozen=True)
class TarHeader:
    """What a header block says about its member."""

    kind: str
    size: int
    """Bytes of the member's content, padding left out."""

    @property
    def padded(self) -> int:
        """Bytes that the content takes in the archive."""
        return -(-self.size // BLOCK) * BLOCK


def _number(text: bytes) -> int:
    if text[0] in (0x80, 0xFF):  # GNU's base 256, for sizes from 8 GiB on
        return int.from_bytes(text[1:], "big", signed=text[0] == 0xFF)
    digits = text.split(b"\0", 1)[0].strip()
    return int(digits or b"0", 8)


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
    kind = _KINDS.get(block[_TYPE])
    if kind is None:
        raise TarHeaderError(f"expected a regular file, found a member of type {block[_TYPE]!r} (a link, a device, …)")
    return TarHeader(kind, 0 if kind == DIRECTORY else size)


def pax_size(content: bytes) -> int | None:
    """Give the size that a pax header sets for the member behind it; None where it sets none.

    Raises:
        TarHeaderError: where the records are damaged.
    """
    found, position = None, 0
    while position < len(content):
        length_text, separator, _ = content[position : position + 20].partition(b" ")
        if not separator or not length_text.isdigit() or int(length_text) <= len(length_text) + 1:
            raise TarHeaderError("expected pax records ('length key=value'), found something else")
        end = position + int(length_text)
        if end > len(content) or content[end - 1 : end] != b"\n":
            raise TarHeaderError("a pax record is cut short")
        name, _, value = content[position + len(length_text) + 1 : end - 1].partition(b"=")
        if name == b"size":
            if not value.isdigit():
                raise TarHeaderError(f"expected a number as pax size, found {value!r}")
            found = int(value)
        position = end
    return found
