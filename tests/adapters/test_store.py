from __future__ import annotations

import threading

import pytest

from shardmill.adapters import lake as commits
from shardmill.adapters.store import CHUNK_BYTES, ChangedObjectError, MissingObjectError, Store, read_uri
from shardmill.specs.manifest import Manifest, SourceObject


def manifest(**changes) -> Manifest:
    values = {
        "stage": "raw",
        "dataset": "d",
        "shard": 3,
        "revision": 0,
        "source": SourceObject(uri="file:///x/x-000003.tar", size=1, version="v1"),
        "samples_in": 0,
        "parts": (),
    }
    return Manifest(**(values | changes))


def test_an_object_is_written_once(lake):
    assert lake.put_new("a/b", b"first")
    assert not lake.put_new("a/b", b"second")
    assert lake.get("a/b") == b"first"


def test_a_large_file_arrives_whole_and_is_not_written_twice(lake, tmp_path):
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * (CHUNK_BYTES // 128))
    assert lake.put_new("large", path)
    assert not lake.put_new("large", path)
    assert b"".join(lake.stream("large")) == path.read_bytes()


def test_a_stream_of_another_version_is_refused(lake):
    lake.put("k", b"old")
    version = lake.head("k").version
    assert b"".join(lake.stream("k", version)) == b"old"
    lake.put("k", b"new bytes")
    with pytest.raises(ChangedObjectError, match="trigger a new run"):
        list(lake.stream("k", version))


def test_what_is_not_there_is_a_missing_object(lake):
    assert lake.head("nothing") is None
    for read in (lake.get, lambda key: list(lake.stream(key))):
        with pytest.raises(MissingObjectError, match="nothing is not there"):
            read("nothing")


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MissingObjectError, match="check the URI"):
        Store(f"file://{tmp_path / 'absent'}")


def test_a_listing_is_sorted_and_below_its_folder(lake):
    for key in ("b/2", "b/1", "a/1"):
        lake.put(key, b"")
    assert [item.key for item in lake.list("b")] == ["b/1", "b/2"]


def test_an_object_is_read_by_its_uri(lake):
    lake.put("folder/name", b"content")
    assert read_uri(lake.uri_of("folder/name")) == b"content"


def test_a_shard_without_a_manifest_has_no_revision(lake):
    assert commits.latest_revision(lake, "raw", "d", "", 3) is None


def test_the_highest_revision_is_the_truth(lake):
    for revision in (0, 1, 2):
        commits.commit(lake, manifest(revision=revision))
    assert commits.latest_revision(lake, "raw", "d", "", 3).manifest.revision == 2


def test_an_equal_manifest_of_another_writer_is_success(lake):
    assert commits.commit(lake, manifest()) == commits.commit(lake, manifest())


def test_another_manifest_under_the_same_revision_is_a_lost_race(lake):
    commits.commit(lake, manifest())
    with pytest.raises(commits.LostRaceError, match="plan again"):
        commits.commit(lake, manifest(samples_in=1))
    assert commits.latest_revision(lake, "raw", "d", "", 3).manifest == manifest()


def test_of_many_writers_exactly_one_commits(lake):
    won, lost = [], []

    def write(number: int) -> None:
        try:
            won.append(commits.commit(lake, manifest(samples_in=number)))
        except commits.LostRaceError as error:
            lost.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
