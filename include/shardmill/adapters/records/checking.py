"""Whether a file is the one that was planned with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from shardmill.adapters.store import DamagedObjectError


def checked_chunks(chunks: Iterable[bytes], sha256: str, uri: str) -> Iterator[bytes]:
    """Pass on all chunks of an object, and behind the last one compare their SHA-256; an empty one is not compared.

    Raises:
        DamagedObjectError: it is another. What was passed on may be wrong.
    """
    digest = hashlib.sha256()
    for chunk in chunks:
        if sha256:
            digest.update(chunk)
        yield chunk
    if sha256 and (found := digest.hexdigest()) != sha256:
        raise DamagedObjectError(f"{uri} is damaged: expected SHA-256 {sha256}, found {found}")
