"""The fake of GCS, as obstore sees it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import obstore
import pytest
from faults.gcs_fake import GcsFake
from obstore.exceptions import AlreadyExistsError, NotFoundError, PreconditionError
from obstore.store import GCSStore

MIB = 1024 * 1024


def _store(fake: GcsFake) -> GCSStore:
    return GCSStore(fake.bucket.name, service_account_key=fake.service_account, client_options={"allow_http": True})


@pytest.fixture
def store(gcs: GcsFake) -> GCSStore:
    return _store(gcs)


@pytest.fixture
def small_pages() -> Iterator[GcsFake]:
    with GcsFake("lake", page=3) as fake:
        yield fake


def _names(store: GCSStore, prefix: str | None = None) -> list[str]:
    return [meta["path"] for batch in obstore.list(store, prefix) for meta in batch]


def test_a_name_is_created_once(store: GCSStore) -> None:
    obstore.put(store, "a b/ü+%.json", b"first", mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "a b/ü+%.json", b"second", mode="create")
    assert bytes(obstore.get(store, "a b/ü+%.json").bytes()) == b"first"
    assert _names(store) == ["a b/ü+%.json"]


def test_of_many_creators_at_once_one_wins(store: GCSStore) -> None:
    def create(number: int) -> bool:
        try:
            obstore.put(store, "x", str(number).encode(), mode="create")
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(32)))
    assert sum(won) == 1
    assert bytes(obstore.get(store, "x").bytes()) == str(won.index(True)).encode()


def test_a_version_is_replaced_once(store: GCSStore) -> None:
    first = obstore.put(store, "x", b"1")
    obstore.put(store, "x", b"2", mode={"e_tag": first["e_tag"], "version": first["version"]})
    with pytest.raises(PreconditionError):
        obstore.put(store, "x", b"3", mode={"e_tag": first["e_tag"], "version": first["version"]})
    assert bytes(obstore.get(store, "x").bytes()) == b"2"


def test_a_range_is_read(store: GCSStore) -> None:
    obstore.put(store, "x", b"0123456789")
    assert bytes(obstore.get_range(store, "x", start=2, end=5)) == b"234"
    assert bytes(obstore.get(store, "x", options={"range": {"suffix": 3}}).bytes()) == b"789"
    assert bytes(obstore.get(store, "x", options={"range": {"offset": 8}}).bytes()) == b"89"


def test_only_the_version_asked_for_is_read(store: GCSStore) -> None:
    etag = obstore.put(store, "x", b"same")["e_tag"]
    assert bytes(obstore.get(store, "x", options={"if_match": etag}).bytes()) == b"same"
    obstore.put(store, "x", b"same")
    with pytest.raises(PreconditionError):
        obstore.get(store, "x", options={"if_match": etag})


def test_a_large_object_comes_in_parts(store: GCSStore, gcs: GcsFake) -> None:
    content = bytes(range(256)) * (12 * MIB // 256)
    with obstore.open_writer(store, "large", buffer_size=5 * MIB) as sink:
        sink.write(content)
        assert _names(store) == []
    assert bytes(obstore.get(store, "large").bytes()) == content
    assert gcs.bucket.uploads == {}


def test_an_aborted_upload_leaves_nothing(store: GCSStore, gcs: GcsFake) -> None:
    def fail() -> None:
        with obstore.open_writer(store, "large", buffer_size=5 * MIB) as sink:
            sink.write(bytes(11 * MIB))
            assert gcs.bucket.uploads
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert gcs.bucket.uploads == {}
    assert gcs.bucket.objects == {}


def test_a_listing_has_more_than_one_page(small_pages: GcsFake) -> None:
    store = _store(small_pages)
    keys = [f"clips/{number:02d}.tar" for number in range(8)]
    for key in [*keys, "other"]:
        obstore.put(store, key, b"x")
    assert _names(store, "clips") == keys
    assert small_pages.bucket.lists == 3
    level = obstore.list_with_delimiter(store)
    assert list(level["common_prefixes"]) == ["clips"]
    assert [meta["path"] for meta in level["objects"]] == ["other"]


def test_what_is_deleted_is_gone(store: GCSStore) -> None:
    obstore.put(store, "x", b"1")
    obstore.delete(store, "x")
    with pytest.raises((FileNotFoundError, NotFoundError)):
        obstore.get(store, "x")
    with pytest.raises((FileNotFoundError, NotFoundError)):
        obstore.head(store, "x")
    obstore.put(store, "x", b"2", mode="create")


def test_a_copy_does_not_overwrite_unless_told(store: GCSStore) -> None:
    obstore.put(store, "from ü", b"1")
    obstore.put(store, "there", b"2")
    with pytest.raises(AlreadyExistsError):
        obstore.copy(store, "from ü", "there", overwrite=False)
    obstore.copy(store, "from ü", "new", overwrite=False)
    assert [bytes(obstore.get(store, key).bytes()) for key in ("there", "new")] == [b"2", b"1"]
