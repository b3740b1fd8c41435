"""Check strictly that a tar is whole."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from shardmill.core.tar_header import (
    BLOCK,
    PAX,
    REGULAR,
    DamagedTarError,
    TarHeader,
    TarHeaderError,
    parse_header,
    pax_size,
)

_PAX_LIMIT = 1024 * 1024
_ZERO = bytes(BLOCK)


def check_tar(path: Path, name: str) -> int:
    """Walk a tar from its first to its last block, for Python's tarfile ends silently where one is damaged.

    Args:
        path: where the file lies.
        name: what the message calls it.

    Returns:
        The number of regular members.

    Raises:
        DamagedTarError: where a header or the end is not as it must be.
    """
    members, override = 0, None
    size = path.stat().st_size
    with path.open("rb") as file:
        while True:
            offset = file.tell()
            block = file.read(BLOCK)
            if block == _ZERO:
                _check_end(file, name)
                return members
            if len(block) < BLOCK:
                raise DamagedTarError(
                    f"{name} is cut short at byte {offset}: expected a header or two zero blocks, found {len(block)} B"
                )
            try:
                header, override = _member(file, block, override)
            except TarHeaderError as error:
                raise DamagedTarError(f"{name} is damaged at byte {offset}: {error}") from error
            end = file.tell() + header.padded
            if end > size:
                raise DamagedTarError(
                    f"{name} is cut short: the member at byte {offset} ends at {end}, the file at {size}"
                )
            file.seek(end)
            members += header.kind == REGULAR


def _member(file: IO[bytes], block: bytes, override: int | None) -> tuple[TarHeader, int | None]:
    header = parse_header(block)
    if header.kind == PAX:
        if header.size > _PAX_LIMIT:
            raise TarHeaderError(f"a pax header of {header.size} B is longer than {_PAX_LIMIT} B")
        start = file.tell()
        override = pax_size(file.read(header.size))
        file.seek(start)
        return header, override
    if header.kind == REGULAR and override is not None:
        return TarHeader(REGULAR, override), None
    return header, override


def _check_end(file: IO[bytes], name: str) -> None:
    offset = file.tell()
    if file.read(BLOCK) != _ZERO:
        raise DamagedTarError(f"{name} is damaged at byte {offset}: expected the second of two zero blocks at the end")
    while chunk := file.read(1024 * 1024):
        if chunk.strip(b"\0"):
            raise DamagedTarError(f"{name} holds data behind its end, after byte {offset}: is it two tars in one?")
