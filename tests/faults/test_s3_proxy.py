"""Each fault of the proxy, as clients of S3 see it, and what the history says of it."""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import obstore
import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from faults.s3_proxy import WRONG_ETAG, S3Proxy
from faults.s3_rules import Nth, Rule, Share
from obstore.store import S3Store

MOMENT = timedelta(milliseconds=100)
# The local S3 looks who signed, not whether the signature is right.
SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0"
}
MANIFEST = "clips/d/abc/_manifests/000003/r000.json"
RECEIPT = "clips/d/abc/000003/r000/clips-000001-0123456789ab.receipt.json"
PART = "clips/d/abc/000003/r000/d-clips-000003-000001-0123456789ab.tar"
CONTENT = bytes(range(256)) * 40
BROKEN = (ConnectionClosedError, EndpointConnectionError, HTTPClientError)


def _client(endpoint: str, *, seconds: float = 10) -> Any:
    """Make a client that never asks twice."""
    retries: Any = {"total_max_attempts": 1, "mode": "standard"}
    config = Config(retries=retries, read_timeout=seconds, s3={"addressing_style": "path"})
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", config=config, **keys)


@pytest.fixture
def s3(s3_proxy: S3Proxy) -> Any:
    return _client(s3_proxy.endpoint)


@pytest.fixture
def behind(local_s3: str) -> Callable[[str], bytes | None]:
    """Looks at an object past the proxy."""
    direct = _client(local_s3)

    def look(key: str) -> bytes | None:
        listed = direct.list_objects_v2(Bucket="lake", Prefix=key).get("Contents", [])
        return direct.get_object(Bucket="lake", Key=key)["Body"].read() if listed else None

    return look


def _obstore(proxy: S3Proxy) -> S3Store:
    return S3Store(
        "lake",
        config={"endpoint": proxy.endpoint, "region": "us-east-1", "access_key_id": "t", "secret_access_key": "t"},
        client_options={"allow_http": True},
        retry_config={
            "max_retries": 2,
            "backoff": {"init_backoff": MOMENT, "max_backoff": MOMENT},
            "retry_timeout": 50 * MOMENT,
        },
    )


def _put(s3: Any, key: str = PART, content: bytes = CONTENT, **more: str) -> Any:
    return s3.put_object(Bucket="lake", Key=key, Body=content, **more)


def _get(s3: Any, key: str = PART, **more: str) -> bytes:
    return s3.get_object(Bucket="lake", Key=key, **more)["Body"].read()


@pytest.mark.parametrize(
    ("action", "status", "code"), [("internal_error", 500, "InternalError"), ("slow_down", 503, "SlowDown")]
)
def test_a_refused_request_never_reaches_the_store(
    s3: Any, s3_proxy: S3Proxy, behind: Any, action: Any, status: int, code: str
) -> None:
    s3_proxy.add(Rule(action, method="PUT", kind="part"))
    with pytest.raises(ClientError) as refused:
        _put(s3)
    assert refused.value.response["Error"]["Code"] == code
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert behind(PART) is None
    _put(s3)
    assert behind(PART) == CONTENT
    assert [(e.action, e.status, e.reached) for e in s3_proxy.history.entries()] == [
        (action, status, False),
        ("", 200, True),
    ]


@pytest.mark.parametrize(("action", "done"), [("reset", False), ("reset_after", True)])
def test_a_broken_connection_tells_nothing_of_the_effect(
    s3: Any, s3_proxy: S3Proxy, behind: Any, action: Any, done: bool
) -> None:
    s3_proxy.add(Rule(action, kind="manifest"))
    with pytest.raises(BROKEN):
        _put(s3, MANIFEST, b"{}", IfNoneMatch="*")
    assert behind(MANIFEST) == (b"{}" if done else None)
    (entry,) = s3_proxy.history.entries()
    assert (entry.status, entry.reached) == (0, done)
    assert entry.conditions == (("if-none-match", "*"),)
    assert (entry.size, entry.sha256) == (2, hashlib.sha256(b"{}").hexdigest())


@pytest.mark.parametrize(("action", "done"), [("hang", False), ("hang_after", True)])
def test_an_answer_that_never_comes_ends_at_the_clients_deadline(
    s3_proxy: S3Proxy, behind: Any, action: Any, done: bool
) -> None:
    s3_proxy.add(Rule(action, kind="receipt", method="PUT"))
    with pytest.raises(ReadTimeoutError):
        _put(_client(s3_proxy.endpoint, seconds=0.3), RECEIPT, b"{}")
    assert behind(RECEIPT) == (b"{}" if done else None)


def test_what_hangs_is_broken_when_the_proxy_lets_go(s3: Any, s3_proxy: S3Proxy) -> None:
    s3_proxy.add(Rule("hang"))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_put, s3)
        while not s3_proxy.history.entries():
            time.sleep(0.01)
        assert not waiting.done()
        s3_proxy.release()
        with pytest.raises(BROKEN):
            waiting.result(timeout=10)


def test_an_error_may_come_after_the_effect(s3: Any, s3_proxy: S3Proxy, behind: Any) -> None:
    s3_proxy.add(Rule("internal_error_after", method="PUT"))
    with pytest.raises(ClientError, match="InternalError"):
        _put(s3)
    assert behind(PART) == CONTENT


def test_a_create_whose_answer_was_lost_is_refused_to_the_clients_own_retry(s3_proxy: S3Proxy, behind: Any) -> None:
    s3_proxy.add(Rule("internal_error_after", kind="manifest", method="PUT"))
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        obstore.put(_obstore(s3_proxy), MANIFEST, b"{}", mode="create", use_multipart=False)
    assert behind(MANIFEST) == b"{}"
    assert [(e.status, e.upstream_status) for e in s3_proxy.history.entries()] == [(500, 200), (412, 412)]


def test_a_body_that_ends_early_is_noticed(s3: Any, s3_proxy: S3Proxy) -> None:
    _put(s3)
    s3_proxy.add(Rule("truncate", method="GET", kind="part"))
    with pytest.raises((IncompleteReadError, ResponseStreamingError)):
        _get(s3)
    assert _get(s3) == CONTENT


@pytest.mark.parametrize("action", ["truncate_silently", "flip"])
def test_a_damaged_body_is_not_noticed_by_a_client_that_checks_nothing(s3_proxy: S3Proxy, action: Any) -> None:
    store = _obstore(s3_proxy)
    obstore.put(store, PART, CONTENT)
    s3_proxy.add(Rule(action, method="GET"))
    found = bytes(obstore.get(store, PART).bytes())
    if action == "flip":
        assert [a ^ b for a, b in zip(found, CONTENT, strict=True) if a != b] == [0xFF]
    else:
        assert found == CONTENT[: len(CONTENT) // 2]
    assert bytes(obstore.get(store, PART).bytes()) == CONTENT


def test_a_byte_that_flips_on_the_way_in_is_refused_by_the_store(s3_proxy: S3Proxy, behind: Any) -> None:
    s3_proxy.add(Rule("flip_request", method="PUT"))
    with pytest.raises(Exception, match="400"):
        obstore.put(_obstore(s3_proxy), PART, CONTENT, use_multipart=False)
    assert behind(PART) is None
    (entry,) = s3_proxy.history.entries(method="PUT")
    assert (entry.status, entry.reached) == (400, True)
    assert entry.sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_an_answer_may_bear_a_wrong_etag(s3: Any, s3_proxy: S3Proxy) -> None:
    right = _put(s3)["ETag"]
    s3_proxy.add(Rule("wrong_etag", method="HEAD"))
    assert [s3.head_object(Bucket="lake", Key=PART)["ETag"] for _ in range(2)] == [WRONG_ETAG, right]


def test_only_the_requests_counted_meet_the_fault(s3: Any, s3_proxy: S3Proxy) -> None:
    s3_proxy.add(Rule("slow_down", Nth(2, times=2), key=r"/000003/", method="PUT"))
    answered = []
    for _ in range(4):
        _put(s3, "runs/r/spec.json", b"{}")
        try:
            answered.append(_put(s3)["ResponseMetadata"]["HTTPStatusCode"])
        except ClientError as error:
            answered.append(error.response["ResponseMetadata"]["HTTPStatusCode"])
    assert answered == [200, 503, 503, 200]


def test_a_share_of_the_requests_meets_the_fault_and_the_same_seed_the_same_ones(s3: Any, s3_proxy: S3Proxy) -> None:
    def struck(seed: int) -> list[int]:
        s3_proxy.clear()
        s3_proxy.add(Rule("slow_down", Share(0.3, seed), method="GET", kind="list"))
        for _ in range(40):
            try:
                s3.list_objects_v2(Bucket="lake")
            except ClientError:
                continue
        return [number for number, e in enumerate(s3_proxy.history.entries(kind="list")) if e.status == 503]

    first = struck(1)
    assert 4 <= len(first) <= 20
    assert struck(1) == first != struck(2)


def test_ranges_heads_listings_and_odd_names_pass_unchanged(s3: Any, s3_proxy: S3Proxy) -> None:
    odd = "raw/d/a b+ü%2F&=.tar"
    _put(s3, odd)
    assert _get(s3, odd, Range="bytes=10-19") == CONTENT[10:20]
    assert s3.head_object(Bucket="lake", Key=odd)["ContentLength"] == len(CONTENT)
    assert [item["Key"] for item in s3.list_objects_v2(Bucket="lake", Prefix="raw/")["Contents"]] == [odd]
    s3.delete_object(Bucket="lake", Key=odd)
    entries = s3_proxy.history.entries()
    assert [(e.method, e.kind) for e in entries] == [
        ("PUT", "source"), ("GET", "source"), ("HEAD", "source"), ("GET", "list"), ("DELETE", "source"),
    ]  # fmt: skip
    assert {e.key for e in entries} == {odd, ""}
    assert entries[1].conditions == (("range", "bytes=10-19"),)


def test_a_chunked_body_arrives_whole(s3_proxy: S3Proxy, behind: Any) -> None:
    address = urlsplit(s3_proxy.endpoint)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    for _ in range(2):  # twice on one connection
        connection.request("PUT", f"/lake/{PART}", iter([CONTENT, b"end"]), SIGNED, encode_chunked=True)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
    connection.close()
    assert behind(PART) == CONTENT + b"end"


def test_an_upload_in_parts_goes_through(s3_proxy: S3Proxy, behind: Any) -> None:
    content = CONTENT * 1200
    with obstore.open_writer(_obstore(s3_proxy), PART, buffer_size=5 * 1024 * 1024) as sink:
        sink.write(content)
    assert behind(PART) == content
    assert sum("partNumber=" in e.query for e in s3_proxy.history.entries()) == 3


def test_five_clients_at_once_each_get_their_own(s3_proxy: S3Proxy, tmp_path: Path) -> None:
    barrier = threading.Barrier(5)

    def work(number: int) -> None:
        s3 = _client(s3_proxy.endpoint)
        barrier.wait()
        for turn in range(10):
            key, content = f"runs/{number}/{turn}", f"{number} {turn} ".encode() * 500
            _put(s3, key, content)
            assert _get(s3, key) == content

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(work, range(5)))
    entries = s3_proxy.history.entries()
    assert [entry.number for entry in entries] == list(range(1, 101))
    s3_proxy.history.save(tmp_path / "history.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == [entry.key for entry in entries]
