from __future__ import annotations

import os
import time

import pytest

from shardmill.adapters.open_uploads import open_uploads
from shardmill.adapters.store import Store, StoreSettings
from shardmill.localcloud.emr_api import EmrApi
from shardmill.localcloud.refusals import Holdings

HOUR = 3600.0


def make_old(path, hours=30.0) -> None:
    then = time.time() - hours * HOUR
    for item in (path, *path.rglob("*")) if path.is_dir() else (path,):
        os.utime(item, (then, then))


def test_a_file_that_obstore_never_finished_is_found_and_removed(lake):
    lake.put("clips/d/part.tar", b"whole")
    staged = lake.folder / "clips/d/part.tar#3"
    staged.write_bytes(b"half")
    make_old(staged)
    found = list(open_uploads(lake, time.time() - 24 * HOUR))
    assert [(upload.uri, upload.size) for upload in found] == [(staged.as_uri(), 4)]
    found[0].abort()
    found[0].abort()  # gone is as good
    assert not staged.exists()
    assert lake.get("clips/d/part.tar") == b"whole"


def test_a_file_that_is_being_written_is_left_alone(lake):
    (lake.folder / "part.tar#1").write_bytes(b"half")
    assert list(open_uploads(lake, time.time() - HOUR)) == []


def test_a_file_whose_name_only_looks_alike_is_left_alone(lake):
    for name in ("a#b", "#notes", "a#1.tar"):
        (lake.folder / name).write_bytes(b"")
        make_old(lake.folder / name)
    assert list(open_uploads(lake, time.time() - HOUR)) == []


def test_scratch_that_a_process_left_behind_is_found_and_removed_but_not_the_lock(lake):
    with lake.scratch("alive-") as alive, lake.scratch("dead-") as dead:
        (dead / "sub").mkdir()
        (dead / "sub" / "part#1").write_bytes(b"12345")
        (alive / "part").write_bytes(b"1")
        lake.put("k", b"1")
        lake.swap("k", b"2", lake.head("k"))
        for path in (dead, alive.parent / "_swap.lock"):
            make_old(path)
        found = list(open_uploads(lake, time.time() - 24 * HOUR))
        assert [upload.uri for upload in found] == [dead.as_uri()]
        assert found[0].size >= 5
        found[0].abort()
        assert not dead.exists()
        assert (alive.parent / "_swap.lock").exists()


def test_old_scratch_with_a_young_file_in_it_is_in_use(lake):
    with lake.scratch("alive-") as folder:
        make_old(folder)
        then = time.time() - 30 * HOUR
        (folder / "part").write_bytes(b"1")
        os.utime(folder, (then, then))
        assert list(open_uploads(lake, time.time() - 24 * HOUR)) == []


@pytest.fixture
def s3(tmp_path):
    from moto.s3.models import s3_backends

    from shardmill.localcloud.cluster_table import ClusterTable
    from shardmill.localcloud.seed import ACCESS_KEY, client
    from shardmill.localcloud.server import REGION, CloudServer

    backend = s3_backends["123456789012"]["aws"]
    backend.reset()
    holdings = Holdings({}, frozenset(), frozenset())
    server = CloudServer(EmrApi(ClusterTable(), lambda: holdings, REGION), tmp_path / "s3", 0)
    found = client("s3", server.endpoint)
    found.create_bucket(Bucket="lake")
    settings = StoreSettings(
        endpoint_url=server.endpoint, region=REGION, access_key_id=ACCESS_KEY, secret_access_key=ACCESS_KEY
    )
    yield found, settings
    server.close()
    backend.reset()


def begin(client, key: str, *, parts: int) -> str:
    upload = client.create_multipart_upload(Bucket="lake", Key=key)["UploadId"]
    for number in range(1, parts + 1):
        client.upload_part(Bucket="lake", Key=key, UploadId=upload, PartNumber=number, Body=b"x" * 1000)
    return upload


def test_uploads_to_s3_are_found_below_the_lake_and_aborted(s3):
    client, settings = s3
    begin(client, "folder/clips/a.tar", parts=2)
    begin(client, "folder-2/clips/b.tar", parts=1)
    lake = Store("s3://lake/folder", settings)
    found = list(open_uploads(lake, time.time() + 10))
    assert [(upload.uri, upload.size) for upload in found] == [("s3://lake/folder/clips/a.tar", 2000)]
    assert abs(found[0].touched - time.time()) < 60
    found[0].abort()
    assert list(open_uploads(lake, time.time() + 10)) == []
    left = client.list_multipart_uploads(Bucket="lake")["Uploads"]
    assert [upload["Key"] for upload in left] == ["folder-2/clips/b.tar"]


def test_an_upload_that_was_finished_meanwhile_is_no_error_and_stays(s3):
    client, settings = s3
    upload = begin(client, "a.tar", parts=1)
    found = list(open_uploads(Store("s3://lake", settings), time.time() + 10))
    etag = client.list_parts(Bucket="lake", Key="a.tar", UploadId=upload)["Parts"][0]["ETag"]
    client.complete_multipart_upload(
        Bucket="lake", Key="a.tar", UploadId=upload, MultipartUpload={"Parts": [{"ETag": etag, "PartNumber": 1}]}
    )
    found[0].abort()
    assert Store("s3://lake", settings).get("a.tar") == b"x" * 1000


def test_uploads_to_s3_that_something_was_added_to_lately_are_left_alone(s3):
    client, settings = s3
    begin(client, "a.tar", parts=1)
    assert list(open_uploads(Store("s3://lake", settings), time.time() - HOUR)) == []


def test_a_session_s_credentials_are_used(s3):
    import boto3

    client, settings = s3
    begin(client, "a.tar", parts=1)
    session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing")
    by_session = StoreSettings(endpoint_url=settings.endpoint_url, region=settings.region, session=session)
    assert len(list(open_uploads(Store("s3://lake", by_session), time.time() + 10))) == 1
