from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from shardmill.adapters.store import (
    CHUNK_BYTES,
    ChangedObjectError,
    DamagedObjectError,
    MissingObjectError,
    Store,
    StoreError,
    StoreSettings,
    fetch_checked,
    read_uri,
)
from shardmill.adapters.store.disk import SCRATCH

LARGE = bytes(range(256)) * (CHUNK_BYTES // 128)
"""Two chunks: larger than what goes up in one request."""


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_an_object_is_written_once(lake):
    assert lake.put_new("a/b", b"first")
    assert not lake.put_new("a/b", b"second")
    assert lake.get("a/b") == b"first"


def test_a_large_file_arrives_whole_and_is_not_written_twice(lake, tmp_path):
    path = tmp_path / "large"
    path.write_bytes(LARGE)
    assert lake.put_new("large", path)
    assert not lake.put_new("large", path)
    assert b"".join(lake.stream("large")) == LARGE


def test_a_stream_of_another_version_is_refused(lake):
    lake.put("k", b"old")
    version = lake.head("k").version
    assert b"".join(lake.stream("k", version)) == lake.get("k", version) == b"old"
    lake.put("k", b"new bytes")
    for read in (lambda: list(lake.stream("k", version)), lambda: lake.get("k", version)):
        with pytest.raises(ChangedObjectError, match="trigger a new run"):
            read()


def test_what_is_not_there_is_a_missing_object(lake):
    assert lake.head("nothing") is None
    for read in (lake.get, lambda key: list(lake.stream(key)), lambda key: lake.get_range(key, 0, 1)):
        with pytest.raises(MissingObjectError, match="nothing is not there"):
            read("nothing")


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MissingObjectError, match="check the URI"):
        Store(f"file://{tmp_path / 'absent'}")


def test_a_listing_is_sorted_and_below_its_folder(lake):
    for key in ("b/2", "b/1", "a/1", "bb/3"):
        lake.put(key, b"")
    assert [item.key for item in lake.list("b")] == ["b/1", "b/2"]


def test_an_object_is_read_by_its_uri(lake):
    lake.put("folder/name", b"content")
    assert read_uri(lake.uri_of("folder/name")) == b"content"


def test_a_range_holds_the_bytes_asked_for(lake):
    lake.put("k", LARGE)
    assert lake.get_range("k", 1000, 77) == LARGE[1000:1077]
    assert b"".join(lake.stream("k", start=5, end=CHUNK_BYTES + 9)) == LARGE[5 : CHUNK_BYTES + 9]


def test_folders_are_the_names_directly_below(lake):
    for key in ("a/2/x", "a/1/y/z", "a/1/w", "a/file", "b/3/x"):
        lake.put(key, b"")
    assert lake.folders("a") == ["1", "2"]
    assert lake.folders("") == ["a", "b"]
    assert lake.folders("absent") == []


def test_removing_what_is_absent_is_no_error_and_the_rest_goes(lake):
    for key in ("a", "b", "c"):
        lake.put(key, b"")
    lake.delete(["absent", "a", "folder/absent", "b"])
    lake.delete([])
    assert [item.key for item in lake.list()] == ["c"]


def test_a_file_on_disk_is_signed_as_its_path(lake):
    lake.put("a/b", b"content")
    assert Path(lake.sign("a/b", hours=1)).read_bytes() == b"content"


# Compare and swap -------------------------------------------------------------------------------------------------


def test_an_object_is_swapped_only_while_it_is_the_expected_one(lake):
    assert lake.swap("k", b"1", None)
    assert not lake.swap("k", b"2", None)
    first = lake.head("k")
    assert lake.swap("k", b"2", first)
    assert not lake.swap("k", b"3", first)
    assert lake.get("k") == b"2"
    lake.delete(["k"])
    assert not lake.swap("k", b"4", first)
    assert lake.head("k") is None


def test_no_swap_of_many_is_lost(lake):
    lake.put("count", b"0")

    def count_up() -> None:
        for _ in range(10):
            while True:
                info = lake.head("count")
                with suppress(ChangedObjectError):
                    if lake.swap("count", b"%d" % (int(lake.get("count", info.version)) + 1), info):
                        break

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lake.get("count") == b"40"


# Copies -----------------------------------------------------------------------------------------------------------


def test_a_copy_within_a_store_is_new_or_is_not(lake):
    lake.put("a/b", b"content")
    assert lake.copy_new("a/b", lake, "c/d")
    lake.put("a/b", b"other")
    assert not lake.copy_new("a/b", lake, "c/d")
    assert lake.get("c/d") == b"content"


def test_a_copy_into_another_store_is_whole_and_leaves_no_scratch(lake, tmp_path):
    other = Store(f"file://{tmp_path / 'other'}", create=True)
    lake.put("a", LARGE)
    assert lake.copy_new("a", other, "b/c")
    assert not lake.copy_new("a", other, "b/c")
    assert other.get("b/c") == LARGE
    assert files_in(other.folder) == {"b/c"}
    assert lake.get("a") == LARGE


def test_a_copy_of_what_is_not_there_leaves_nothing(lake, tmp_path):
    other = Store(f"file://{tmp_path / 'other'}", create=True)
    for target in (lake, other):
        with pytest.raises(MissingObjectError):
            lake.copy_new("absent", target, "b")
        assert list(target.list()) == []


# Files on disk ----------------------------------------------------------------------------------------------------


def test_a_finished_file_is_linked_into_a_lake_on_disk(lake):
    with lake.scratch("x-") as folder:
        assert folder.is_relative_to(lake.folder / SCRATCH)
        path = folder / "file"
        path.write_bytes(b"content")
        assert lake.put_new("a/b", path)
        assert (lake.folder / "a/b").stat().st_ino == path.stat().st_ino
        assert not lake.put_new("a/b", path)
    assert lake.get("a/b") == b"content"
    assert list((lake.folder / SCRATCH).iterdir()) == []


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than the lake."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system: /dev/shm is none")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.mark.parametrize("content", [b"", b"small", LARGE], ids=["empty", "small", "large"])
def test_a_file_on_another_file_system_is_put_whole_and_once(lake, elsewhere, content):
    path = elsewhere / "file"
    path.write_bytes(content)
    assert lake.put_new("a/b", path)
    path.write_bytes(b"other")
    assert not lake.put_new("a/b", path)
    assert lake.get("a/b") == content


class BreakingPath(type(Path())):  # type: ignore[misc]
    """A file whose second read fails."""

    def open(self, mode="r", *arguments, **options):
        opened = super().open(mode, *arguments, **options)
        reads = iter([opened.read(CHUNK_BYTES)])

        class Breaking:
            def __enter__(self):
                return self

            def __exit__(self, *error):
                opened.close()

            def read(self, size):
                if (chunk := next(reads, None)) is None:
                    raise OSError("the disk broke")
                return chunk

        return Breaking()


def test_an_upload_that_an_exception_leaves_shows_nothing(lake, elsewhere):
    path = elsewhere / "file"
    path.write_bytes(LARGE)
    with pytest.raises(OSError, match="the disk broke"):
        lake.put_new("a/b", BreakingPath(path))
    assert lake.head("a/b") is None
    assert list(lake.list()) == []
    assert lake.put_new("a/b", path)
    assert lake.get("a/b") == LARGE


@pytest.mark.parametrize("key", ["../out", "../fresh", "a/../../out", "{root}/out", "{root}/fresh"])
def test_no_key_leaves_the_folder(lake, tmp_path, key):
    outside = tmp_path / "out"
    outside.write_bytes(b"not the lake's")
    file = tmp_path / "file"
    file.write_bytes(b"content")
    key = key.format(root=tmp_path)
    outcomes = []
    for act in (
        lambda: lake.put_new(key, b"new"),
        lambda: lake.put_new(key, file),
        lambda: lake.put(key, b"new"),
        lambda: lake.get(key),
        lambda: lake.swap(key, b"new", lake.head(key)),
        lambda: lake.sign(key, 1),
        lambda: lake.delete([key]),
    ):
        with suppress(ValueError, TypeError, StoreError):
            outcomes.append(act())
    assert outside.read_bytes() == b"not the lake's"
    assert {name for name in files_in(tmp_path) if not name.startswith("lake/")} == {"out", "file"}
    assert b"not the lake's" not in outcomes
    assert not [path for path in outcomes if isinstance(path, str) and Path(path).resolve() == outside]


def test_a_percent_in_a_key_is_only_a_letter(lake, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"linked")
    assert lake.put_new("%2e%2e/a", b"content")
    assert not lake.put_new("%2e%2e/a", path)
    assert lake.put_new("%2e%2e/b", path)
    assert [item.key for item in lake.list()] == ["%2e%2e/a", "%2e%2e/b"]
    assert lake.get("%2e%2e/b") == b"linked"


# Damage -----------------------------------------------------------------------------------------------------------


class FlippingStore(Store):
    """A store of which the first reads have a byte flipped."""

    flips = 1

    def stream(self, key: str, version: str = "", *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        for chunk in super().stream(key, version, start=start, end=end):
            flipped = self.flips > 0
            self.flips -= 1
            yield bytes([chunk[0] ^ 1]) + chunk[1:] if flipped else chunk


SHA256 = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
"""Of ``content``."""


@pytest.mark.parametrize("flips", [0, 1, 2])
def test_a_byte_that_flips_on_the_way_is_read_again(lake, tmp_path, flips):
    lake.put("k", b"content")
    store = FlippingStore(lake.uri)
    store.flips = flips
    with (tmp_path / "file").open("wb") as file:
        file.write(b"before ")
        fetch_checked(store, "k", SHA256, file)
    assert (tmp_path / "file").read_bytes() == b"before content"


def test_what_stays_damaged_is_named(lake, tmp_path):
    lake.put("k", b"CONTENT")
    with (tmp_path / "file").open("wb") as file, pytest.raises(DamagedObjectError, match=rf"lake/k: .*{SHA256}"):
        fetch_checked(lake, "k", SHA256, file)


# Over HTTP --------------------------------------------------------------------------------------------------------


@dataclass
class Served:
    """One object of a bucket, as its server is told to serve it."""

    content: bytes = LARGE
    etag: str = '"v1"'
    breaks: int = 0
    """Bodies that are cut off half way, from now on."""
    etag_after: str = ""
    """The ETag that it has behind the first body."""
    denied: bool = False
    ranges: list[tuple[str, str]] = field(default_factory=list)
    """Range and If-Match of each GET."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Served

    def do_HEAD(self) -> None:
        self._answer(200, len(self.served.content))

    def do_GET(self) -> None:
        served, asked = self.served, self.headers.get("If-Match", "")
        span = self.headers.get("Range", "")
        served.ranges.append((span, asked))
        if served.denied:
            self._answer(403, 0)
            return
        if asked and asked != served.etag:
            self._answer(412, 0)
            return
        first, _, last = span.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last) + 1, len(served.content))
        body = served.content[start:end]
        self._answer(206, len(body), f"bytes {start}-{end - 1}/{len(served.content)}")
        served.etag = served.etag_after or served.etag
        if served.breaks:
            served.breaks -= 1
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        self.wfile.write(body)

    def _answer(self, status: int, length: int, content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", self.served.etag)
        self.send_header("Last-Modified", "Sat, 21 Nov 2026 00:00:00 GMT")
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def served() -> Iterator[tuple[Served, Store]]:
    """A bucket on loopback with one object ``k``, and the store that reads it."""
    state = Served()
    handler = type("Handler", (_Handler,), {"served": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    settings = StoreSettings(
        endpoint_url=f"http://127.0.0.1:{server.server_port}",
        region="us-east-1",
        access_key_id="a",
        secret_access_key="b",
        timeout_seconds=10.0,
        patience_seconds=0.2,
    )
    yield state, Store("s3://bucket", settings)
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("breaks", [1, 3])
def test_a_read_that_breaks_off_goes_on_where_it_broke(served, breaks):
    state, store = served
    state.breaks = breaks
    assert b"".join(store.stream("k")) == LARGE
    spans = [span for span, _ in state.ranges]
    assert len(spans) == breaks + 1
    starts = [int(span.removeprefix("bytes=").partition("-")[0]) for span in spans]
    assert starts[0] == 0
    assert min(starts[1:]) >= CHUNK_BYTES, "a chunk that had come was read again"


def test_a_read_that_goes_on_asks_for_the_version_that_it_began_with(served):
    state, store = served
    state.breaks = 2
    impatient = Store(store.uri, replace(store.settings, patience_seconds=0.0))  # obstore then goes on with nothing
    assert b"".join(impatient.stream("k")) == LARGE
    assert [version for _, version in state.ranges] == ["", '"v1"', '"v1"']


def test_an_object_that_changes_under_a_broken_read_is_not_spliced(served):
    state, store = served
    state.breaks, state.etag_after = 1, '"v2"'
    with pytest.raises(ChangedObjectError, match="s3://bucket/k changed since it was listed"):
        list(store.stream("k"))


def test_a_planned_version_that_is_no_longer_there_is_changed(served):
    _, store = served
    with pytest.raises(ChangedObjectError):
        list(store.stream("k", '"v0"'))


def test_a_read_that_breaks_off_again_and_again_is_given_up_and_says_where(served, monkeypatch):
    state, store = served
    monkeypatch.setattr("shardmill.adapters.store.reading.PAUSE_SECONDS", 0.0)
    state.content, state.breaks = b"x", 10**9  # half of one byte is none: no try gets further
    with pytest.raises(StoreError, match=r"s3://bucket/k: the read broke off 6 times at byte 0 of 1: try again"):
        list(store.stream("k"))


def test_a_store_that_refuses_is_named_with_what_to_do(served):
    state, store = served
    state.denied = True
    with pytest.raises(StoreError, match="s3://bucket/k may not be used: check the connection's rights"):
        list(store.stream("k"))


def test_a_signed_url_names_the_object_and_no_secret(served):
    _, store = served
    url = store.sign("k", hours=2)
    assert url.startswith(store.settings.endpoint_url + "/bucket/k?")
    assert "X-Amz-Expires=7200" in url


def test_settings_show_no_secret():
    shown = repr(
        StoreSettings(secret_access_key="hidden-1", session_token="hidden-2", google_service_account="hidden-3")
    )
    assert "hidden" not in shown


def test_settings_are_those_that_the_sdks_read():
    found = StoreSettings.from_environment(
        {
            "AWS_ENDPOINT_URL": "http://general",
            "AWS_ENDPOINT_URL_S3": "http://s3",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "GOOGLE_APPLICATION_CREDENTIALS": "/a file that is not there is no matter of S3",
        }
    )
    assert (found.endpoint_url, found.region) == ("http://s3", "eu-central-1")
