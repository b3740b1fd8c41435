"""A bucket that gives other bytes when it is read again."""

from __future__ import annotations

from collections.abc import Iterator

from shardmill.adapters.store import ObjectInfo, StoreSettings


class Bucket:
    """A bucket whose object is read as these bytes, one after the other; the last one from then on.

    Its ETag is the name of its folder.
    """

    contents: tuple[bytes, ...] = ()
    reads = 0

    def __init__(self, uri: str, settings: StoreSettings | None = None) -> None:
        self.uri = uri

    def head(self, key: str) -> ObjectInfo:
        return ObjectInfo(key, len(Bucket.contents[0]), self.uri.rpartition("/")[2])

    def stream(self, key: str, version: str, *, start: int, end: int) -> Iterator[bytes]:
        Bucket.reads += 1
        first, *rest = Bucket.contents
        Bucket.contents = tuple(rest) or (first,)
        yield first[start:end]
