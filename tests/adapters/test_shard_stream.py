from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from faults.bucket import Bucket

from shardmill.adapters import source as sources
from shardmill.adapters.lake import file_sha256, put_part
from shardmill.adapters.shard_stream import ShardStream
from shardmill.adapters.store import DamagedObjectError, Store
from shardmill.specs.manifest import Manifest, Part, SourceObject

SAME = hashlib.sha256(b"same").hexdigest()
LOOKS_LIKE_MD5 = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> type[Bucket]:
    monkeypatch.setattr(sources, "Store", Bucket)
    monkeypatch.setattr(Bucket, "reads", 0)
    return Bucket


def raw(source: SourceObject, *parts: Part) -> Manifest:
    return Manifest(stage="raw", dataset="x", shard=1, revision=0, source=source, samples_in=1, parts=parts)


def settled(lake: Store, etag: str) -> bytes:
    """Read an object with this ETag where it lies at the source."""
    source = SourceObject(uri=f"s3://bucket/{etag}/x-000001.tar", size=4, version=etag)
    stream = ShardStream(lake, raw(source))
    content = b"".join(stream.chunks())
    stream.settle(hashlib.sha256(content).hexdigest())
    return content


def test_bytes_that_fit_their_etag_are_read_once(lake, bucket, monkeypatch):
    monkeypatch.setattr(bucket, "contents", (b"same",))
    assert settled(lake, hashlib.md5(b"same", usedforsecurity=False).hexdigest()) == b"same"
    assert bucket.reads == 1


def test_an_etag_that_only_looks_like_an_md5_costs_a_second_read(lake, bucket, monkeypatch):
    monkeypatch.setattr(bucket, "contents", (b"same",))
    assert settled(lake, LOOKS_LIKE_MD5) == b"same"
    assert bucket.reads == 2


def test_two_reads_that_differ_are_damage(lake, bucket, monkeypatch):
    monkeypatch.setattr(bucket, "contents", (b"same", b"else"))
    with pytest.raises(DamagedObjectError, match=r"s3://bucket/.*/x-000001\.tar: two reads differ"):
        settled(lake, LOOKS_LIKE_MD5)


def test_an_etag_that_says_nothing_is_believed(lake, bucket, monkeypatch):
    monkeypatch.setattr(bucket, "contents", (b"same", b"else"))
    assert settled(lake, f"{LOOKS_LIKE_MD5}-9") == b"same"
    assert bucket.reads == 1


def test_a_copy_in_pieces_is_read_as_one_and_each_piece_is_checked(lake: Store, tmp_path: Path) -> None:
    parts = []
    for number, content in enumerate((b"a" * 3000, b"b" * 10)):
        path = tmp_path / f"{number}"
        path.write_bytes(content)
        sha256 = file_sha256(path)
        parts.append(Part(name=f"raw/x/{number}-{sha256[:12]}", size=len(content), sha256=sha256, samples=0))
        put_part(lake, parts[-1], path)
    manifest = raw(SourceObject(uri="file:///gone/x-000001.tar", size=3010, version="v"), *parts)
    assert b"".join(ShardStream(lake, manifest).chunks()) == b"a" * 3000 + b"b" * 10
    lake.put(parts[0].name, b"a" * 2999 + b"c")
    chunks = ShardStream(lake, manifest).chunks()
    with pytest.raises(DamagedObjectError, match=parts[0].name):
        list(chunks)
