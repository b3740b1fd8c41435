"""Write Matroska by hand, with values that no writer would write."""

from __future__ import annotations

import struct

HEAD, SEGMENT, INFO, TRACKS, TRACK, VIDEO = 0x1A45DFA3, 0x18538067, 0x1549A966, 0x1654AE6B, 0xAE, 0xE0
CLUSTER, SIMPLE_BLOCK, TIMESTAMP, TIMESTAMP_SCALE, DURATION = 0x1F43B675, 0xA3, 0xE7, 0x2AD7B1, 0x4489
CODEC, PRIVATE, WIDTH, HEIGHT, NUMBER, UID, KIND = 0x86, 0x63A2, 0xB0, 0xBA, 0xD7, 0x73C5, 0x83


def element(identity: int, content: bytes) -> bytes:
    name = identity.to_bytes((identity.bit_length() + 7) // 8, "big")
    return name + (0x01 << 56 | len(content)).to_bytes(8, "big") + content


def number(identity: int, value: int) -> bytes:
    return element(identity, value.to_bytes(8, "big"))


def film(
    frames: list[tuple[int, bytes]],
    *,
    codec: str,
    size: tuple[int, int],
    private: bytes = b"",
    scale: int = 1_000_000,
    duration: float | None = None,
) -> bytes:
    """Write a film of one video track.

    Args:
        frames: time in ticks and packet of each; a cluster each.
        scale: nanoseconds of a tick.
        duration: what the header claims, in ticks.
    """
    head = element(0x4282, b"matroska") + number(0x4287, 4) + number(0x4285, 2)
    info = number(TIMESTAMP_SCALE, scale) + element(0x4D80, b"odd") + element(0x5741, b"odd")
    if duration is not None:
        info += element(DURATION, struct.pack(">d", duration))
    track = number(NUMBER, 1) + number(UID, 1) + number(KIND, 1) + element(CODEC, codec.encode())
    track += element(PRIVATE, private) if private else b""
    track += element(VIDEO, number(WIDTH, size[0]) + number(HEIGHT, size[1]))
    clusters = b"".join(
        element(CLUSTER, number(TIMESTAMP, time) + element(SIMPLE_BLOCK, b"\x81\0\0\x80" + packet))
        for time, packet in frames
    )
    body = element(INFO, info) + element(TRACKS, element(TRACK, track)) + clusters
    return element(HEAD, head) + element(SEGMENT, body)
