from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.bucket import Bucket

from shardmill.adapters import lake as commits
from shardmill.adapters import source as sources
from shardmill.adapters.sample_files import encode_scene, write_tar
from shardmill.adapters.store import (
    ChangedObjectError,
    DamagedObjectError,
    Store,
    fetch_checked,
)
from shardmill.core.sample_scenes import Scene
from shardmill.jobs.ingest import Copying, Ingest, Outcome, ingest_shard
from shardmill.jobs.split import split_shard
from shardmill.specs.manifest import Manifest, SourceObject
from shardmill.specs.recipes import SplitRecipe

CONTENT = bytes(range(256)) * 40
"""10,240 bytes: eleven pieces of a thousand."""
IN_PIECES = Copying(piece_bytes=1000)


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


def ingest(lake: Store, source: SourceObject | Path, how: Ingest = "copy", copying: Copying | None = None) -> Outcome:
    planned = source_at(source) if isinstance(source, Path) else source
    return ingest_shard(lake, "x", (1, planned), how, copying)


def committed(lake: Store) -> Manifest:
    revision = commits.latest_revision(lake, "raw", "x", "", 1)
    assert revision is not None
    return revision.manifest


def content_in(lake: Store, tmp_path: Path) -> bytes:
    """What the lake holds of the shard, every piece checked."""
    path = tmp_path / "read-back"
    with path.open("wb") as file:
        for part in committed(lake).parts:
            fetch_checked(lake, part.name, part.sha256, file)
    return path.read_bytes()


class WatchedStore(Store):
    """The source's store: counts what is read, and lets a test act before a read."""

    bytes_read = 0
    reads = 0

    def stream(self, key: str, version: str = "", *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        type(self).reads += 1
        self.before_read()
        for chunk in super().stream(key, version, start=start, end=end):
            type(self).bytes_read += len(chunk)
            yield chunk

    def before_read(self) -> None:
        """Do nothing; a test puts something else here."""


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> type[WatchedStore]:
    """Watches the source, and the source alone."""
    watching = type("Watching", (WatchedStore,), {})
    monkeypatch.setattr(sources, "Store", watching)
    return watching


# By reference -----------------------------------------------------------------------------------------------------


def test_a_reference_freezes_the_source_and_copies_nothing(lake, shard, watched):
    outcome = ingest(lake, shard, "reference")
    assert (outcome.skipped, outcome.why, outcome.size, outcome.revision) == (False, "new", len(CONTENT), 0)
    assert (committed(lake).parts, committed(lake).source, committed(lake).samples_in) == ((), source_at(shard), 1)
    assert [item.key for item in lake.list()] == ["raw/x/_manifests/000001/r000.json"]
    assert watched.bytes_read == 0
    again = ingest(lake, shard, "reference")
    assert (again.skipped, again.why, again.revision) == (True, "present, of the same source", 0)


def test_a_changed_source_is_a_new_reference(lake, shard):
    ingest(lake, shard, "reference")
    shard.write_bytes(CONTENT[::-1])
    outcome = ingest(lake, shard, "reference")
    assert (outcome.skipped, outcome.why, outcome.revision) == (False, "the source changed", 1)
    assert committed(lake).source == source_at(shard)


def test_from_reference_to_copy_is_a_new_revision_and_back_is_none(lake, shard, tmp_path):
    ingest(lake, shard, "reference")
    copied = ingest(lake, shard, "copy")
    assert (copied.skipped, copied.why, copied.revision) == (False, "it was only referenced", 1)
    assert content_in(lake, tmp_path) == CONTENT
    back = ingest(lake, shard, "reference")
    assert (back.skipped, back.revision) == (True, 1)


def test_clips_stay_valid_when_a_referenced_shard_is_copied_and_its_source_goes_away(lake, tmp_path):
    shard = tmp_path / "source" / "x-000001.tar"
    shard.parent.mkdir()
    video = encode_scene(Scene(3, ("sunset",), seconds=1.0, width=64, height=32))
    write_tar(shard, [("a.mp4", video), ("b.mp4", video)])
    recipe = SplitRecipe(width=64, height=32, preset="ultrafast")
    ingest(lake, shard, "reference")
    assert split_shard(lake, "x", 1, recipe).clips == 2
    before = commits.latest_revision(lake, "clips", "x", recipe.hash, 1)
    ingest(lake, shard, "copy", IN_PIECES)
    assert split_shard(lake, "x", 1, recipe).why == "present, made from the same source"
    shard.unlink()
    other = recipe.model_copy(update={"crf": 40.0})
    assert split_shard(lake, "x", 1, other).clips == 2  # from the pieces in the lake
    assert commits.latest_revision(lake, "clips", "x", recipe.hash, 1) == before
    assert commits.latest_revision(lake, "clips", "x", other.hash, 1).manifest.source == before.manifest.source


# Copies -----------------------------------------------------------------------------------------------------------


def test_a_shard_is_copied_once_and_again_only_when_its_source_changed(lake, shard, tmp_path):
    first, second = ingest(lake, shard), ingest(lake, shard)
    shard.write_bytes(b"other bytes")
    third = ingest(lake, shard)
    assert [(o.skipped, o.revision) for o in (first, second, third)] == [(False, 0), (True, 0), (False, 1)]
    assert third.why == "the source changed"
    assert len([item for item in lake.list("raw/x") if item.key.endswith(".tar")]) == 2
    assert content_in(lake, tmp_path) == b"other bytes"


def test_a_small_shard_is_one_file_under_its_hash_that_any_tar_reads(lake, tmp_path):
    shard = tmp_path / "x-000001.tar"
    write_tar(shard, [("a.txt", b"text")])
    ingest(lake, shard)
    (part,) = committed(lake).parts
    sha256 = hashlib.sha256(shard.read_bytes()).hexdigest()
    assert (part.name, part.sha256) == (f"raw/x/000001/r000/x-000001-000000-{sha256[:12]}.tar", sha256)
    with tarfile.open(lake.folder / part.name) as tar:
        assert tar.getnames() == ["a.txt"]


@pytest.mark.parametrize("size", [1, 999, 1000, 1001, 2000, 10_240])
def test_a_large_shard_is_copied_in_pieces_that_make_it_again(lake, shard, tmp_path, watched, size):
    shard.write_bytes(CONTENT[:size])
    ingest(lake, shard, copying=IN_PIECES)
    parts = committed(lake).parts
    assert [part.size for part in parts] == [1000] * (size // 1000) + [size % 1000] * (size % 1000 > 0)
    assert sum(part.samples for part in parts) == committed(lake).samples_in == 1
    assert content_in(lake, tmp_path) == CONTENT[:size]
    assert watched.bytes_read == size


def test_an_empty_shard_is_copied_once(lake, shard):
    shard.write_bytes(b"")
    assert [ingest(lake, shard).skipped for _ in range(2)] == [False, True]
    assert [part.size for part in committed(lake).parts] == [0]


class BrokenStore(Store):
    """A lake whose connection breaks at the n-th write."""

    writes_left = 1

    def put_new(self, key: str, content: bytes | Path) -> bool:
        if self.writes_left == 0:
            raise ConnectionError("the connection broke")
        self.writes_left -= 1
        return super().put_new(key, content)


@pytest.mark.parametrize("writes", [0, 1, 2, 7, 21, 22])
def test_a_copy_that_broke_goes_on_behind_its_last_whole_piece(lake, shard, tmp_path, watched, writes):
    broken = BrokenStore(lake.uri)
    broken.writes_left = writes
    with pytest.raises(ConnectionError):
        ingest(broken, shard, copying=IN_PIECES)
    assert commits.latest_revision(lake, "raw", "x", "", 1) is None
    watched.bytes_read = 0
    assert ingest(lake, shard, copying=IN_PIECES).revision == 0
    assert watched.bytes_read == max(0, len(CONTENT) - 1000 * (writes // 2))
    assert content_in(lake, tmp_path) == CONTENT
    undisturbed = Store(f"file://{tmp_path / 'undisturbed'}", create=True)
    ingest(undisturbed, shard, copying=IN_PIECES)
    assert committed(undisturbed) == committed(lake)


def test_a_copy_that_goes_on_with_pieces_of_another_size_is_still_the_shard(lake, shard, tmp_path):
    broken = BrokenStore(lake.uri)
    broken.writes_left = 6
    with pytest.raises(ConnectionError):
        ingest(broken, shard, copying=IN_PIECES)
    ingest(lake, shard, copying=Copying(piece_bytes=4000))
    assert content_in(lake, tmp_path) == CONTENT


def test_a_copy_leaves_no_scratch(lake, shard):
    ingest(lake, shard, copying=IN_PIECES)
    assert list((lake.folder / "_scratch").iterdir()) == []


@pytest.mark.parametrize("how", ["reference", "copy"])
def test_a_source_that_changed_since_the_plan_is_not_taken_in(lake, shard, how):
    planned = source_at(shard)
    shard.write_bytes(b"other bytes")
    with pytest.raises(ChangedObjectError):
        ingest(lake, planned, how)
    assert list(lake.list("raw/x")) == []


@pytest.mark.parametrize("how", ["reference", "copy"])
def test_a_plan_of_an_older_source_never_becomes_the_newer_revision(lake, shard, how):
    older = source_at(shard)
    shard.write_bytes(b"other bytes")
    ingest(lake, shard, how)
    with pytest.raises(ChangedObjectError, match="trigger a new run"):
        ingest(lake, older, how)
    assert (committed(lake).revision, committed(lake).source) == (0, source_at(shard))


@pytest.mark.parametrize("other", [CONTENT[::-1], CONTENT[:5000]], ids=["same size", "shorter"])
def test_a_source_that_changes_in_the_middle_is_planned_anew_as_a_new_revision(lake, shard, tmp_path, watched, other):
    ingest(lake, shard, "reference")

    def change(store: WatchedStore) -> None:
        if store.reads == 3:
            shard.write_bytes(other)

    watched.before_read = change
    with pytest.raises(ChangedObjectError, match="trigger a new run"):
        ingest(lake, shard, copying=IN_PIECES)
    assert (committed(lake).revision, committed(lake).parts) == (0, ())
    outcome = ingest(lake, shard, copying=IN_PIECES)
    assert (outcome.skipped, outcome.why, outcome.revision) == (False, "the source changed", 1)
    assert committed(lake).source == source_at(shard)
    assert content_in(lake, tmp_path) == other


# Against the ETag -------------------------------------------------------------------------------------------------


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> type[Bucket]:
    monkeypatch.setattr(sources, "Store", Bucket)
    monkeypatch.setattr(Bucket, "reads", 0)
    monkeypatch.setattr(Bucket, "contents", (b"same",))
    return Bucket


def in_bucket(etag: str) -> SourceObject:
    return SourceObject(uri=f"s3://bucket/{etag}/x-000001.tar", size=4, version=etag)


ENCRYPTED = in_bucket("0123456789abcdef0123456789abcdef")
HONEST = in_bucket(hashlib.md5(b"same", usedforsecurity=False).hexdigest())


@pytest.mark.parametrize("piece_bytes", [1, 3, 4, 100])
def test_a_copy_that_fits_its_etag_is_read_once(lake, tmp_path, bucket, piece_bytes):
    ingest(lake, HONEST, copying=Copying(piece_bytes=piece_bytes))
    assert bucket.reads == -(-4 // piece_bytes)
    assert content_in(lake, tmp_path) == b"same"


@pytest.mark.parametrize("piece_bytes", [2, 100])
def test_an_etag_that_only_looks_like_an_md5_does_not_stop_a_copy(lake, tmp_path, bucket, piece_bytes):
    assert not ingest(lake, ENCRYPTED, copying=Copying(piece_bytes=piece_bytes)).skipped
    assert content_in(lake, tmp_path) == b"same"
    assert bucket.reads == 2 * -(-4 // piece_bytes)


def test_two_reads_that_differ_are_not_copied(lake, bucket):
    bucket.contents = (b"same", b"else")
    with pytest.raises(DamagedObjectError, match="two reads differ from piece 0 on: try again"):
        ingest(lake, ENCRYPTED)
    assert list(lake.list("raw/x")) == []


def test_a_piece_that_was_damaged_on_the_way_is_copied_anew_by_the_next_try(lake, tmp_path, bucket):
    bucket.contents = (b"same", b"saXe", b"same")  # one read a piece: the second piece is "X"-ed, the rest is right
    with pytest.raises(DamagedObjectError, match="two reads differ from piece 1 on"):
        ingest(lake, HONEST, copying=Copying(piece_bytes=2))
    assert commits.latest_revision(lake, "raw", "x", "", 1) is None
    bucket.reads = 0
    assert ingest(lake, HONEST, copying=Copying(piece_bytes=2)).revision == 0
    assert bucket.reads == 1, "the first piece was right and was copied again"
    assert content_in(lake, tmp_path) == b"same"


def test_a_published_piece_that_was_damaged_on_the_way_is_copied_anew_by_the_next_try(lake, tmp_path, bucket):
    bucket.contents = (b"same", b"sXme", b"same")
    with pytest.raises(DamagedObjectError, match="two reads differ from piece 1 on"):
        ingest(lake, HONEST, copying=Copying(piece_bytes=1))
    bucket.reads = 0
    ingest(lake, HONEST, copying=Copying(piece_bytes=1))
    assert bucket.reads == 3
    assert content_in(lake, tmp_path) == b"same"


def test_pieces_of_an_earlier_try_are_part_of_what_the_etag_is_compared_with(lake, tmp_path, bucket):
    broken = BrokenStore(lake.uri)
    broken.writes_left = 2
    bucket.contents = (b"Xame", b"same")
    with pytest.raises(ConnectionError):
        ingest(broken, HONEST, copying=Copying(piece_bytes=1))
    with pytest.raises(DamagedObjectError, match="two reads differ from piece 0 on"):
        ingest(lake, HONEST, copying=Copying(piece_bytes=1))
    ingest(lake, HONEST, copying=Copying(piece_bytes=1))
    assert content_in(lake, tmp_path) == b"same"
