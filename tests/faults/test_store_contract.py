"""What the commit protocol asks of a store holds on disk, on S3 and on GCS."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx
import pytest

from shardmill.adapters.store import ChangedObjectError, MissingObjectError, Store
from shardmill.adapters.store.store import SINGLE_PUT_BYTES


@pytest.fixture
def store(place):
    return Store(place.uri, place.settings, create=True)


def test_an_object_is_written_once_and_stays_as_it_was_first(store):
    assert store.put_new("a/b", b"first")
    assert not store.put_new("a/b", b"second")
    assert store.get("a/b") == b"first"


def test_of_many_writers_of_one_name_at_once_exactly_one_is_told_that_it_wrote(store):
    said: list[tuple[bool, bytes]] = []
    start = threading.Barrier(8)

    def write(number: int) -> None:
        content = str(number).encode()
        start.wait()
        said.append((store.put_new("contested", content), content))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    winners = [content for wrote, content in said if wrote]
    assert len(winners) == 1
    assert store.get("contested") == winners[0]


def test_a_swap_writes_only_where_nobody_wrote_in_between(store):
    assert store.swap("index", b"1", None)
    assert not store.swap("index", b"1b", None)
    seen = store.head("index")
    assert store.swap("index", b"2", seen)
    assert not store.swap("index", b"3", seen)
    assert store.get("index") == b"2"


def test_of_many_swaps_at_once_exactly_one_wins(store):
    store.put("index", b"0")
    seen = store.head("index")
    said: list[bool] = []
    start = threading.Barrier(6)

    def swap(number: int) -> None:
        start.wait()
        said.append(store.swap("index", f"swapped by {number}".encode(), seen))

    threads = [threading.Thread(target=swap, args=(number,)) for number in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sum(said) == 1


def test_a_large_file_goes_up_in_pieces_and_is_read_whole_in_ranges_and_by_version(store, tmp_path):
    path = tmp_path / "large"
    content = bytes(range(256)) * (SINGLE_PUT_BYTES // 256 + 5000)
    path.write_bytes(content)
    assert store.put_new("large", path)
    assert not store.put_new("large", path)
    version = store.head("large").version
    assert b"".join(store.stream("large", version)) == content
    assert store.get_range("large", 1_000_000, 300) == content[1_000_000:1_000_300]
    assert b"".join(store.stream("large", version, start=len(content) - 10)) == content[-10:]


def test_another_version_is_an_error_of_its_own_kind(store):
    store.put("k", b"old")
    version = store.head("k").version
    store.put("k", b"new bytes")
    for read in (lambda: store.get("k", version), lambda: list(store.stream("k", version, end=3))):
        with pytest.raises(ChangedObjectError):
            read()


def test_what_is_not_there_is_missing_and_is_deleted_without_complaint(store):
    store.put("there", b"1")
    assert store.head("nothing") is None
    for read in (store.get, lambda key: list(store.stream(key))):
        with pytest.raises(MissingObjectError, match="nothing"):
            read("nothing")
    store.delete(["nothing", "there"])
    assert store.head("there") is None


def test_a_listing_is_sorted_below_its_folder_and_names_folders(store):
    for key in ("b/2/x", "b/1/x", "b/1/y", "a/1", "bc/1"):
        store.put(key, b"content")
    found = list(store.list("b"))
    assert [item.key for item in found] == ["b/1/x", "b/1/y", "b/2/x"]
    assert {item.size for item in found} == {7}
    assert [item.version for item in found] == [store.head(item.key).version for item in found]
    assert list(store.folders("b")) == ["1", "2"]
    assert list(store.folders()) == ["a", "b", "bc"]


def test_an_empty_object_is_an_object(store):
    assert store.put_new("empty", b"")
    assert store.get("empty") == b""
    assert list(store.stream("empty")) == []


def test_a_copy_never_overwrites_within_a_store_and_between_two(store, tmp_path):
    store.put("from", b"content")
    assert store.copy_new("from", store, "to")
    other = Store(f"file://{tmp_path / 'other'}", create=True)
    assert store.copy_new("from", other, "far/to")
    assert (store.get("to"), other.get("far/to")) == (b"content", b"content")
    store.put("from", b"other content")
    assert not store.copy_new("from", store, "to")
    assert not store.copy_new("from", other, "far/to")
    assert (store.get("to"), other.get("far/to")) == (b"content", b"content")


def test_a_signed_url_or_a_path_is_readable_without_credentials(store):
    if store.uri.startswith("gs://"):
        pytest.skip("the fake of GCS has no service account to sign with")
    store.put("clip", b"content")
    url = store.sign("clip", 1.0)
    read = httpx.get(url).content if url.startswith("http") else Path(url).read_bytes()
    assert read == b"content"
