from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardmill.adapters import source as sources
from shardmill.adapters.source import SourceReader
from shardmill.adapters.store import ChangedObjectError, DamagedObjectError, MissingObjectError, ObjectInfo, Store
from shardmill.specs.manifest import SourceObject

CONTENT = bytes(range(256)) * 5000


def source_at(path: Path) -> SourceObject:
    """What a listing says of a file on disk."""
    (info,) = [item for item in Store(f"file://{path.parent}").list() if item.key == path.name]
    return SourceObject(uri=f"file://{path}", size=info.size, version=info.version)


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "x-000001.tar"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


def fetched(reader: SourceReader) -> tuple[bytes, str]:
    file = io.BytesIO()
    sha256 = reader.fetch(file)
    return file.getvalue(), sha256


def test_the_planned_version_is_fetched_with_its_hash(shard):
    assert fetched(SourceReader(source_at(shard))) == (CONTENT, hashlib.sha256(CONTENT).hexdigest())


def test_pieces_are_the_bytes_asked_for(shard):
    reader = SourceReader(source_at(shard))
    assert b"".join(reader.stream(10, 1000)) == CONTENT[10:1000]
    assert b"".join(reader.stream(1_279_000)) == CONTENT[1_279_000:]
    assert b"".join(reader.stream()) == CONTENT


@pytest.mark.parametrize("content", [CONTENT + b"!", CONTENT[::-1]], ids=["other size", "same size"])
def test_another_version_is_not_read(shard, content):
    planned = source_at(shard)
    shard.write_bytes(content)
    message = f"expected 1280000 bytes of version {planned.version}, found {len(content)} of .*: trigger a new run"
    reader = SourceReader(planned)
    for read in (reader.check_unchanged, lambda: list(reader.stream()), lambda: fetched(reader)):
        with pytest.raises(ChangedObjectError, match=message):
            read()


def test_an_object_that_is_gone_is_changed(shard):
    planned = source_at(shard)
    shard.unlink()
    with pytest.raises(ChangedObjectError, match="found nothing: trigger a new run"):
        list(SourceReader(planned).stream())


def test_a_folder_that_is_gone_is_missing(shard):
    planned = source_at(shard)
    shard.unlink()
    shard.parent.rmdir()
    with pytest.raises(MissingObjectError, match="check the URI"):
        SourceReader(planned)


def test_a_change_between_two_requests_is_not_spliced(shard, monkeypatch):
    monkeypatch.setattr("shardmill.adapters.store.reading.DISK_BYTES", 1000)
    chunks = SourceReader(source_at(shard)).stream()
    assert next(chunks) == CONTENT[:1000]
    shard.write_bytes(CONTENT[::-1])
    with pytest.raises(ChangedObjectError):
        list(chunks)


class Bucket:
    """A bucket whose object is read as these bytes, one after the other; its ETag is the name of its folder."""

    contents: tuple[bytes, ...] = ()
    reads = 0

    def __init__(self, uri: str, settings: object = None) -> None:
        self.uri = uri

    def head(self, key: str) -> ObjectInfo:
        return ObjectInfo(key, len(Bucket.contents[0]), self.uri.rpartition("/")[2])

    def stream(self, key: str, version: str, *, start: int, end: int) -> Iterator[bytes]:
        Bucket.reads += 1
        first, *rest = Bucket.contents
        Bucket.contents = tuple(rest) or (first,)
        yield first[start:end]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> type[Bucket]:
    monkeypatch.setattr(sources, "Store", Bucket)
    monkeypatch.setattr(Bucket, "reads", 0)
    return Bucket


def object_with(etag: str) -> SourceReader:
    return SourceReader(SourceObject(uri=f"s3://bucket/{etag}/x-000001.tar", size=4, version=etag))


SAME = hashlib.sha256(b"same").hexdigest()


def test_bytes_that_fit_their_etag_are_read_once(bucket, monkeypatch):
    monkeypatch.setattr(bucket, "contents", (b"same",))
    etag = hashlib.md5(b"same", usedforsecurity=False).hexdigest()
    assert fetched(object_with(etag)) == (b"same", SAME)
    assert bucket.reads == 1


def test_an_etag_that_only_looks_like_an_md5_costs_a_second_read(bucket, monkeypatch):
    monkeypatch.setattr(bucket, "contents", (b"same",))
    assert fetched(object_with("0123456789abcdef0123456789abcdef")) == (b"same", SAME)
    assert bucket.reads == 2


def test_two_reads_that_differ_are_damage(bucket, monkeypatch):
    monkeypatch.setattr(bucket, "contents", (b"same", b"else"))
    with pytest.raises(DamagedObjectError, match=r"s3://bucket/.*/x-000001\.tar: two reads differ"):
        fetched(object_with("0123456789abcdef0123456789abcdef"))


def test_an_etag_that_says_nothing_is_believed(bucket, monkeypatch):
    monkeypatch.setattr(bucket, "contents", (b"same", b"else"))
    assert fetched(object_with("0123456789abcdef0123456789abcdef-9")) == (b"same", SAME)
    assert bucket.reads == 1
