from __future__ import annotations

from pathlib import Path

import pytest

from shardmill.adapters.source import SourceReader
from shardmill.adapters.store import ChangedObjectError, MissingObjectError, Store
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
    for read in (reader.check_unchanged, lambda: list(reader.stream())):
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
