"""Bring objects to this machine, hashed on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

from shardmill.adapters.store.errors import ChangedObjectError, DamagedObjectError
from shardmill.adapters.store.store import Store

READS = 3
"""Times that an object is read before it counts as damaged: a byte may flip on the way."""


def write_hashed(chunks: Iterable[bytes], file: BinaryIO, *others: Callable[[bytes], None]) -> str:
    """Write chunks to a file while other threads hash them. Returns their SHA-256.

    Args:
        others: get each chunk too, in order, each in a thread of its own.
    """
    digest = hashlib.sha256()
    takers = (digest.update, *others)
    pools = [ThreadPoolExecutor(1) for _ in takers]
    waiting: list[Future[None]] = []
    try:
        for chunk in chunks:
            for future in waiting:  # at most one chunk is being hashed while the next one is read and written
                future.result()
            waiting = [pool.submit(take, chunk) for pool, take in zip(pools, takers, strict=True)]
            file.write(chunk)
        for future in waiting:
            future.result()
    finally:
        for pool in pools:
            pool.shutdown()
    return digest.hexdigest()


def fetch_checked(store: Store, key: str, sha256: str, file: BinaryIO) -> None:
    """Write an object's bytes behind the end of a file, read again where they are not those of its hash.

    Raises:
        DamagedObjectError: they never were.
        MissingObjectError: there is no such object.
    """
    start, found = file.tell(), ""
    for _ in range(READS):
        file.seek(start)
        file.truncate()
        try:
            found = write_hashed(store.stream(key), file)
        except ChangedObjectError:  # another writer of the same bytes gave it another ETag
            found = "it written to"
        if found == sha256:
            return
    raise DamagedObjectError(f"{store.uri_of(key)}: expected the SHA-256 {sha256}, found {found}")
