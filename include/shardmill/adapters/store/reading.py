"""Read an object range by range; what breaks off goes on where it broke, on the same version."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore

from shardmill.adapters.store.errors import StoreError, told

RANGE_BYTES = 64 * 1024 * 1024
"""Of one request: so that none lasts longer than its time limit on a slow line."""
CHUNK_BYTES = 8 * 1024 * 1024
"""Of one piece of a large upload."""
STREAM_BYTES = 1024 * 1024
"""Of one chunk of a stream: memory of this size is used again, larger pieces are asked of the kernel each time."""
MOST_RESUMES = 5
"""Times that a read may break off one after the other without a byte between."""
PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class Span:
    """Bytes of one version of an object."""

    key: str
    start: int
    end: int
    """First byte behind the span."""
    version: str = ""
    """ETag; empty for whatever version there is at the first request."""


DISK_BYTES = 4 * 1024 * 1024
"""Of one read from disk, whole: obstore's streams of files are ten times slower."""


def read_span(store: ObjectStore, span: Span, uri: str) -> Iterator[bytes]:
    """Yield the bytes of a span in chunks.

    Raises:
        ChangedObjectError: the object is no longer of that version.
        StoreError: the read broke off too often without progress.
    """
    position, version, failures = span.start, span.version, 0
    on_disk = isinstance(store, LocalStore)
    while position < span.end:
        before, cause = position, None
        try:
            end = min(position + (DISK_BYTES if on_disk else RANGE_BYTES), span.end)
            with told(uri):
                result = obstore.get(store, span.key, options=_options(position, end, version))
            version = version or result.meta["e_tag"] or ""
            for chunk in [result.bytes()] if on_disk else result.stream(min_chunk_size=STREAM_BYTES):
                data = bytes(chunk)[: span.end - position]
                position += len(data)
                yield data
        except BaseError as error:
            cause = error
        if position == end:
            failures = 0
            continue
        failures = 1 if position > before else failures + 1
        if failures > MOST_RESUMES:
            raise StoreError(
                f"{uri}: the read broke off {failures} times at byte {position} of {span.end}: try again"
            ) from cause
        time.sleep(PAUSE_SECONDS * 2**failures)


def _options(start: int, end: int, version: str) -> obstore.GetOptions:
    return {"range": (start, end), "if_match": version} if version else {"range": (start, end)}
