"""What an S3 ETag says of an object's bytes: the MD5 of an object sent whole, or a hash of hashes of its pieces."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Literal

_WHOLE = re.compile(r'"?([0-9a-f]{32})"?')
_PIECES = re.compile(r'"?([0-9a-f]{32})-(\d+)"?')
MEBIBYTE = 1024 * 1024
PIECE_SIZES = tuple(size * MEBIBYTE for size in (5, 8, 10, 15, 16, 20, 25, 32, 50, 64, 100, 128, 256, 512, 1024))
"""What upload tools cut objects into: AWS' and boto3 8, rclone 5, s3cmd 15, obstore 5 or 8 MiB, …"""
MOST_GUESSES = 3

Verdict = Literal["equal", "different", "unknown"]


class _PieceDigest:
    def __init__(self, size: int) -> None:
        self._size, self._room = size, size
        self._current = hashlib.md5(usedforsecurity=False)
        self._done = b""

    def update(self, content: bytes) -> None:
        view = memoryview(content)
        while view:
            taken, view = view[: self._room], view[self._room :]
            self._current.update(taken)
            self._room -= len(taken)
            if not self._room:
                self._close()

    def _close(self) -> None:
        self._done += self._current.digest()
        self._current, self._room = hashlib.md5(usedforsecurity=False), self._size

    def hexdigest(self) -> str:
        last = self._current.digest() if self._room < self._size else b""
        return hashlib.md5(self._done + last, usedforsecurity=False).hexdigest()


class EtagCheck:
    """Compares bytes that go by with an object's ETag."""

    def __init__(self, uri: str, etag: str, size: int) -> None:
        """Prepare for an object of ``size`` bytes; only S3's ETags say anything."""
        whole, pieces = _WHOLE.fullmatch(etag), _PIECES.fullmatch(etag)
        self._expected = ""
        self._digests: Sequence[_PieceDigest] | Sequence[hashlib._Hash] = ()
        if not uri.startswith("s3://"):
            return
        if whole:
            self._expected, self._digests = whole[1], (hashlib.md5(usedforsecurity=False),)
        elif pieces:
            fitting = [piece for piece in PIECE_SIZES if -(-size // piece) == int(pieces[2])]
            self._expected, self._digests = pieces[1], tuple(map(_PieceDigest, fitting[:MOST_GUESSES]))

    @property
    def says_something(self) -> bool:
        """Whether there is anything to compare with."""
        return bool(self._digests)

    def update(self, content: bytes) -> None:
        """Take in the next bytes."""
        for digest in self._digests:
            digest.update(content)

    def verdict(self) -> Verdict:
        """Say whether the bytes are the object's.

        ``different`` may be wrong: of an object encrypted by KMS the ETag looks like an MD5 and is none, and a tool may
        have cut its pieces in another way than any that is known here.
        """
        if any(digest.hexdigest() == self._expected for digest in self._digests):
            return "equal"
        return "different" if self._digests else "unknown"
