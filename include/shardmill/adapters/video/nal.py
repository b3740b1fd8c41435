"""The parameter sets that an H.264 packet carries."""

from __future__ import annotations

import re
from collections.abc import Iterator

_SEQUENCE, _PICTURE = 7, 8
_START_CODE = re.compile(rb"\x00\x00\x01")


def parameter_sets(packet: bytes, header: bytes) -> Iterator[bytes]:
    """Yield the sequence and picture parameter sets of a packet.

    Args:
        packet: NAL units behind start codes, or behind their lengths, as the header says.
        header: the stream's extradata; it begins with 1 where units come behind their lengths.
    """
    units = _measured(packet, (header[4] & 3) + 1) if header[:1] == b"\x01" and len(header) > 4 else _marked(packet)
    return (unit for unit in units if unit and unit[0] & 31 in (_SEQUENCE, _PICTURE))


def _measured(packet: bytes, size: int) -> Iterator[bytes]:
    at = 0
    while at + size <= len(packet):
        length = int.from_bytes(packet[at : at + size], "big")
        yield packet[at + size : at + size + length]
        at += size + length


def _marked(packet: bytes) -> Iterator[bytes]:
    starts = [found.end() for found in _START_CODE.finditer(packet)]
    for start, end in zip(starts, [*(begin - 3 for begin in starts[1:]), len(packet)], strict=True):
        yield packet[start:end].rstrip(b"\0")
