from __future__ import annotations

import gc
import http.client
import json
import os
import re
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import obstore
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import S3Store

from shardmill.adapters.store import Store, StoreSettings

Serve = Callable[[], Any]
BUCKET = "lake"
MIB = 1024 * 1024
ODD_KEYS = [
    "plain",
    "a/b/c.json",
    "spaces and +plus%25.txt",
    "ümlaut/日本.txt",
    "dir/",
    "a//b",
    "q?x=1&y#z",
    "dot/../dot",
]


def content_of(s3: Any, key: str) -> bytes:
    found: bytes = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    return found


def keys_of(s3: Any) -> list[str]:
    return [found["Key"] for found in s3.list_objects_v2(Bucket=BUCKET).get("Contents", ())]


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def files_below(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def make(serve: Serve) -> Any:
    s3 = serve().s3
    s3.create_bucket(Bucket=BUCKET)
    return s3


def test_objects_outlive_a_restart_with_their_etags_and_metadata(serve: Serve) -> None:
    s3 = make(serve)
    for key in ODD_KEYS:
        s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode(), Metadata={"made-by": "test"}, ContentType="text/x-own")
    s3.put_object_tagging(Bucket=BUCKET, Key="plain", Tagging={"TagSet": [{"Key": "t", "Value": "v"}]})
    before = {key: s3.head_object(Bucket=BUCKET, Key=key) for key in ODD_KEYS}
    s3 = serve().s3
    assert keys_of(s3) == sorted(ODD_KEYS, key=lambda key: key.encode())
    for key in ODD_KEYS:
        after = s3.head_object(Bucket=BUCKET, Key=key)
        for name in ("ETag", "ContentLength", "ContentType", "Metadata", "LastModified"):
            assert after[name] == before[key][name], (key, name)
        assert content_of(s3, key) == key.encode()
    assert s3.get_object_tagging(Bucket=BUCKET, Key="plain")["TagSet"] == [{"Key": "t", "Value": "v"}]


def test_buckets_outlive_a_restart_also_empty_ones_and_their_end_does_too(serve: Serve) -> None:
    s3 = make(serve)
    s3.create_bucket(Bucket="second")
    s3.put_object(Bucket="second", Key="k", Body=b"")
    s3 = serve().s3
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == [BUCKET, "second"]
    with pytest.raises(ClientError) as error:
        s3.delete_bucket(Bucket="second")
    assert code_of(error) == "BucketNotEmpty"
    s3.delete_object(Bucket="second", Key="k")
    s3.delete_bucket(Bucket="second")
    s3 = serve().s3
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == [BUCKET]


def test_a_replaced_object_is_the_new_one_and_a_deleted_one_is_gone(serve: Serve, tmp_path: Path) -> None:
    s3 = make(serve)
    for body in (b"old", b"new"):
        s3.put_object(Bucket=BUCKET, Key="k", Body=body)
    for key in ("d1", "d2", "d3"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"d")
    s3.delete_object(Bucket=BUCKET, Key="d1")
    s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "d2"}, {"Key": "d3"}]})
    s3.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": "k"})
    s3 = serve().s3
    assert {key: content_of(s3, key) for key in keys_of(s3)} == {"copy": b"new", "k": b"new"}
    assert len(files_below(tmp_path / "s3" / BUCKET / "content")) == 2


def multipart(s3: Any, key: str, parts: list[bytes]) -> tuple[str, list[dict[str, Any]]]:
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key, Metadata={"k": "v"})["UploadId"]
    done = [
        {
            "PartNumber": n,
            "ETag": s3.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=n, Body=part)["ETag"],
        }
        for n, part in enumerate(parts, 1)
    ]
    return upload, done


def test_multipart_objects_keep_their_etag_and_a_repeated_completion_is_answered_alike(serve: Serve) -> None:
    s3 = make(serve)
    parts = [os.urandom(5 * MIB), os.urandom(5 * MIB), b"end"]
    upload, done = multipart(s3, "big", parts)
    complete = {"Bucket": BUCKET, "Key": "big", "UploadId": upload, "MultipartUpload": {"Parts": done}}
    etag = s3.complete_multipart_upload(**complete)["ETag"]
    assert etag.endswith('-3"')
    assert s3.complete_multipart_upload(**complete)["ETag"] == etag
    s3 = serve().s3
    assert s3.head_object(Bucket=BUCKET, Key="big")["ETag"] == etag
    assert s3.head_object(Bucket=BUCKET, Key="big")["Metadata"] == {"k": "v"}
    assert content_of(s3, "big") == b"".join(parts)
    assert s3.get_object(Bucket=BUCKET, Key="big", Range="bytes=5242878-5242883")["Body"].read() == (
        parts[0][-2:] + parts[1][:4]
    )
    assert s3.complete_multipart_upload(**complete)["ETag"] == etag


def test_aborted_and_open_uploads_leave_nothing(serve: Serve, tmp_path: Path) -> None:
    s3 = make(serve)
    upload, _ = multipart(s3, "aborted", [b"a" * 5 * MIB])
    s3.abort_multipart_upload(Bucket=BUCKET, Key="aborted", UploadId=upload)
    multipart(s3, "open", [b"b" * 5 * MIB])
    s3 = serve().s3
    assert keys_of(s3) == []
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)
    assert files_below(tmp_path / "s3" / BUCKET) == {"bucket.json"}


def test_of_many_create_only_puts_at_once_exactly_one_wins(serve: Serve) -> None:
    s3 = make(serve)
    start = threading.Barrier(8)

    def put(number: int) -> tuple[int, str]:
        start.wait()
        try:
            s3.put_object(Bucket=BUCKET, Key="manifest", Body=b"%d" % number, IfNoneMatch="*")
        except ClientError as error:
            return number, error.response["Error"]["Code"]
        return number, "won"

    for _ in range(5):
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(put, range(8)))
        winners = [number for number, result in results if result == "won"]
        assert len(winners) == 1
        assert {result for _, result in results} == {"won", "PreconditionFailed"}
        assert content_of(s3, "manifest") == b"%d" % winners[0]
        s3.delete_object(Bucket=BUCKET, Key="manifest")


def test_conditions_hold_for_put_copy_and_completion_also_behind_a_restart(serve: Serve) -> None:
    s3 = make(serve)
    etag = s3.put_object(Bucket=BUCKET, Key="k", Body=b"1")["ETag"]
    s3 = serve().s3
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"2", IfNoneMatch="*")
    assert code_of(error) == "PreconditionFailed"
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"2", IfMatch=etag)
    upload, done = multipart(s3, "k", [b"3"])
    attempts: list[Callable[[], Any]] = [
        lambda: s3.put_object(Bucket=BUCKET, Key="k", Body=b"3", IfMatch=etag),
        lambda: s3.copy_object(
            Bucket=BUCKET, Key="k", CopySource=f"{BUCKET}/k", IfNoneMatch="*", MetadataDirective="REPLACE"
        ),
        lambda: s3.complete_multipart_upload(
            Bucket=BUCKET, Key="k", UploadId=upload, MultipartUpload={"Parts": done}, IfMatch=etag
        ),
        lambda: s3.complete_multipart_upload(
            Bucket=BUCKET, Key="k", UploadId=upload, MultipartUpload={"Parts": done}, IfNoneMatch="*"
        ),
    ]
    for attempt in attempts:
        with pytest.raises(ClientError) as error:
            attempt()
        assert code_of(error) == "PreconditionFailed"
    assert content_of(s3, "k") == b"2"


def test_obstore_gets_what_the_commit_protocol_needs(serve: Serve) -> None:
    served = serve()
    served.s3.create_bucket(Bucket=BUCKET)
    config: Any = {"region": "us-east-1", "endpoint": served.server.endpoint, "virtual_hosted_style_request": False}
    config |= {"access_key_id": "testing", "secret_access_key": "testing"}
    store = S3Store(BUCKET, config=config, client_options={"allow_http": True})
    obstore.put(store, "k", b"1", mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "k", b"2", mode="create")
    old = obstore.head(store, "k")["e_tag"]
    obstore.put(store, "k", b"2", mode={"e_tag": old})
    with pytest.raises(PreconditionError):
        obstore.put(store, "k", b"3", mode={"e_tag": old})
    with obstore.open_writer(store, "big", buffer_size=5 * MIB) as sink:
        for _ in range(3):
            sink.write(b"x" * 4 * MIB)
    assert obstore.head(store, "big")["size"] == 12 * MIB
    assert bytes(obstore.get_range(store, "big", start=5 * MIB - 1, length=2)) == b"xx"
    with pytest.raises(RuntimeError), obstore.open_writer(store, "left", buffer_size=5 * MIB) as sink:
        sink.write(b"x" * 6 * MIB)
        raise RuntimeError("left by an exception")
    assert keys_of(served.s3) == ["big", "k"]


def test_what_a_crash_left_behind_is_removed_and_never_half_an_object(serve: Serve, tmp_path: Path) -> None:
    s3 = make(serve)
    s3.put_object(Bucket=BUCKET, Key="whole", Body=b"whole")
    s3.put_object(Bucket=BUCKET, Key="torn", Body=b"torn by a power cut")
    folder = tmp_path / "s3" / BUCKET
    (folder / "content" / "orphan").write_bytes(b"written, never committed")
    (folder / "objects" / "half.json.tmp").write_text('{"key": "ha')
    (tmp_path / "s3" / "no-bucket" / "content").mkdir(parents=True)
    torn = next(
        json.loads(path.read_text()) for path in (folder / "objects").glob("*.json") if "torn" in path.read_text()
    )
    (folder / "content" / torn["content"]).write_bytes(b"to")
    s3 = serve().s3
    assert keys_of(s3) == ["whole"]
    assert len(files_below(folder)) == 3
    assert not (tmp_path / "s3" / "no-bucket").exists()


def test_a_write_that_the_disk_refuses_changes_nothing(serve: Serve, tmp_path: Path) -> None:
    served = serve()
    s3 = boto3.client("s3", config=Config(retries={"total_max_attempts": 1}), **served.connection)
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"old")
    (tmp_path / "s3" / BUCKET / "content").rename(tmp_path / "elsewhere")
    (tmp_path / "s3" / BUCKET / "content").write_text("not a folder")
    for key in ("k", "new"):
        with pytest.raises(ClientError) as error:
            s3.put_object(Bucket=BUCKET, Key=key, Body=b"new")
        assert code_of(error) == "InternalError"
    (tmp_path / "s3" / BUCKET / "content").unlink()
    (tmp_path / "elsewhere").rename(tmp_path / "s3" / BUCKET / "content")
    assert {key: content_of(s3, key) for key in keys_of(s3)} == {"k": b"old"}
    s3 = serve().s3
    assert {key: content_of(s3, key) for key in keys_of(s3)} == {"k": b"old"}


def test_content_lies_on_disk_and_not_in_memory(serve: Serve) -> None:
    served = serve()
    served.s3.create_bucket(Bucket=BUCKET)
    served.s3.put_object(Bucket=BUCKET, Key="first", Body=b"")
    files_before = len(list(Path("/proc/self/fd").iterdir()))
    tracemalloc.start()
    try:
        for number in range(20):
            served.s3.put_object(Bucket=BUCKET, Key=f"k{number}", Body=bytes(6 * MIB if number < 3 else MIB))
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 8 * MIB  # of 35 MiB
    assert len(list(Path("/proc/self/fd").iterdir())) - files_before < 6


def test_what_would_be_forgotten_is_refused(serve: Serve) -> None:
    s3 = make(serve)
    with pytest.raises(ClientError) as error:
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    assert code_of(error) == "NotImplemented"


def test_web_pages_and_other_services_are_refused(serve: Serve) -> None:
    served = serve()
    connection = http.client.HTTPConnection("127.0.0.1", served.server.port)
    connection.request("GET", "/", headers={"Origin": "http://example.com"})
    assert connection.getresponse().status == 403
    connection = http.client.HTTPConnection("127.0.0.1", served.server.port)
    connection.request("POST", "/moto-api/reset")
    assert connection.getresponse().status == 501


def test_a_report_opens_in_a_browser_and_reads_nothing_else(serve: Serve) -> None:
    s3 = make(serve)
    for key in ("runs/r/report.html", "runs/r/spec.json"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"<h1>r</h1>", ContentType="text/html")

    def opened(method: str, key: str, **headers: str) -> http.client.HTTPResponse:
        host = s3.meta.endpoint_url.removeprefix("http://")
        connection = http.client.HTTPConnection(host)
        connection.request(method, f"/{BUCKET}/{key}", headers=headers)
        return connection.getresponse()

    page = opened("GET", "runs/r/report.html")
    assert (page.status, page.read()) == (200, b"<h1>r</h1>")
    assert page.headers["Content-Security-Policy"] == "sandbox"
    assert opened("GET", "runs/r/spec.json").status == 403
    assert opened("GET", "runs/r/report.html", Origin="http://example.com").status == 403
    assert opened("PUT", "runs/r/report.html").status != 200
    assert s3.get_object(Bucket=BUCKET, Key="runs/r/report.html")["Body"].read() == b"<h1>r</h1>"


IN_A_TAB = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
IN_ANOTHERS_PAGE = [
    {},
    {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"},
]


def opened_at(s3: Any, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(s3.meta.endpoint_url.removeprefix("http://"))
    connection.request(method, path, headers=headers)
    return connection.getresponse()


def test_a_folder_opened_in_a_tab_is_a_page_whose_links_lead_on(serve: Serve) -> None:
    s3 = make(serve)
    for key in ("runs/r/spec.json", "runs/r/logs/a b&c.txt", "runs/<i>.json", "other"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"12345")
    page = opened_at(s3, f"/{BUCKET}?prefix=runs/", **IN_A_TAB)
    text = page.read().decode()
    assert page.headers["Content-Security-Policy"] == "sandbox allow-downloads"
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    links = re.findall(r'<a href="([^"]*)">([^<]*)</a>', text)
    assert links == [
        (f"/{BUCKET}?prefix=", ".."),
        (f"/{BUCKET}?prefix=runs/r/", "r/"),
        (f"/{BUCKET}/runs/%3Ci%3E.json", "&lt;i&gt;.json"),
    ]
    for step in ("runs/r/", "runs/r/logs/"):
        text = opened_at(s3, f"/{BUCKET}?prefix={step}", **IN_A_TAB).read().decode()
    (link,) = re.findall(r'<a href="([^"]*)">a b&amp;c.txt', text)
    file = opened_at(s3, link, **IN_A_TAB)
    assert (file.status, file.read(), file.headers["Content-Security-Policy"]) == (200, b"12345", "sandbox")
    shown = opened_at(s3, f"/{BUCKET}/runs/r/spec.json", **IN_A_TAB)
    assert (shown.status, shown.headers["Content-Type"]) == (200, "application/json")
    assert keys_of(s3) == sorted(keys_of(s3))  # the SDKs are answered as before


@pytest.mark.parametrize("headers", IN_ANOTHERS_PAGE)
def test_what_anothers_page_takes_in_is_refused(serve: Serve, headers: dict[str, str]) -> None:
    s3 = make(serve)
    for key in ("runs/r/spec.json", "runs/r/report.html"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"{}")
        for query in ("", "?X-Amz-Signature=0"):
            status = opened_at(s3, f"/{BUCKET}/{key}{query}", **headers).status
            assert status == 403 or (not headers and status == 200), (key, query)
    assert b"<table>" not in opened_at(s3, f"/{BUCKET}?prefix=runs/", **headers).read()
    assert opened_at(s3, f"/{BUCKET}/runs/r/spec.json", "DELETE", **IN_A_TAB).status != 204
    assert keys_of(s3) == ["runs/r/report.html", "runs/r/spec.json"]


@pytest.mark.parametrize("asked", ["", "X-Amz-Signature=0&", "Signature=0&"])
def test_what_a_query_makes_of_anothers_bytes_is_locked_up_too(serve: Serve, asked: str) -> None:
    s3 = make(serve)
    s3.put_object(Bucket=BUCKET, Key="raw/x.tar", Body=b"<script>alert(1)</script>")
    page = opened_at(s3, f"/{BUCKET}/raw/x.tar?{asked}response-content-type=text/html", **IN_A_TAB)
    assert page.headers["Content-Security-Policy"] == "sandbox"


def test_a_page_that_the_store_writes_is_shown_by_browsers_and_not_kept_as_a_download(serve: Serve) -> None:
    s3 = make(serve)
    lake = Store(f"s3://{BUCKET}/lake", StoreSettings(s3.meta.endpoint_url, "us-east-1", "testing", "testing"))
    lake.put("runs/r/report.html", b"<h1>r</h1>")
    lake.put("runs/r/part.tar", b"")
    page = opened_at(s3, f"/{BUCKET}/lake/runs/r/report.html", **IN_A_TAB)
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert s3.head_object(Bucket=BUCKET, Key="lake/runs/r/part.tar")["ContentType"] == "binary/octet-stream"
