"""Uploads that were begun and never finished: what they hold is paid for, and no listing shows it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardmill.adapters.store import Store, StoreError, StoreSettings
from shardmill.adapters.store.disk import SCRATCH

_STAGED = re.compile(r".+#\d+")
"""How obstore names a file on disk until it is whole."""
_LOCKS = re.compile(r"_.+\.lock")
GCS_ADVICE = (
    "unfinished uploads in gs:// are not looked for: give the bucket a lifecycle rule AbortIncompleteMultipartUpload"
)


@dataclass(frozen=True)
class OpenUpload:
    """An upload that is not finished."""

    uri: str
    size: int
    """Bytes that it holds so far."""
    touched: float
    """When it was begun or written to last, seconds since 1970."""
    abort: Callable[[], None]
    """Give it up; an upload that is gone is no error."""


def open_uploads(store: Store, before: float) -> Iterator[OpenUpload]:
    """Find the uploads below a store's folder that nothing was added to since a time (seconds since 1970)."""
    if store.folder is not None:
        yield from _on_disk(store.folder, before)
    elif store.uri.startswith("s3://"):
        yield from _in_s3(store, before)


def _on_disk(folder: Path, before: float) -> Iterator[OpenUpload]:
    scratch = folder / SCRATCH
    left = (path for path in sorted(scratch.glob("*")) if not _LOCKS.fullmatch(path.name))
    staged = (path for path in _walk(folder) if _STAGED.fullmatch(path.name) and scratch not in path.parents)
    for path in (*left, *staged):
        found = _measure(path)
        if found is not None and found[1] < before:
            yield OpenUpload(path.as_uri(), *found, abort=_Removal(path))


def _walk(folder: Path) -> Iterator[Path]:
    """Yield all files and folders below a folder; what goes meanwhile is passed over, as ``rglob`` does not."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield Path(parent, name)


def _measure(path: Path) -> tuple[int, float] | None:
    """Give bytes and the time of the last change of a file, or of all in a folder; None where it has gone."""
    try:
        # What is inside counts too: a folder's own time stands still while a file in it grows.
        stats = [item.lstat() for item in (path, *_walk(path))]
    except FileNotFoundError:
        return None
    return sum(stat.st_size for stat in stats), max(stat.st_mtime for stat in stats)


@dataclass(frozen=True)
class _Removal:
    path: Path

    def __call__(self) -> None:
        if self.path.is_dir():
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            self.path.unlink(missing_ok=True)


def _in_s3(store: Store, before: float) -> Iterator[OpenUpload]:
    bucket, _, prefix = store.uri.removeprefix("s3://").partition("/")
    client = _client(store.settings)
    pages = client.get_paginator("list_multipart_uploads").paginate(
        Bucket=bucket, Prefix=f"{prefix}/" if prefix else ""
    )
    with _told(store.uri):
        for upload in (upload for page in pages for upload in page.get("Uploads", ())):
            begun = upload["Initiated"].timestamp()
            if begun >= before:
                continue
            abort = _Abortion(client, {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]})
            size, touched = abort.measure()
            if touched < before:
                yield OpenUpload(f"s3://{bucket}/{upload['Key']}", size, max(begun, touched), abort)


@dataclass(frozen=True)
class _Abortion:
    client: Any
    upload: dict[str, str]

    def measure(self) -> tuple[int, float]:
        """Give the bytes uploaded so far and when the last of them came, seconds since 1970; 0 without any."""
        size, touched = 0, 0.0
        with _told(self.upload["Key"]):
            for page in self.client.get_paginator("list_parts").paginate(**self.upload):
                for part in page.get("Parts", ()):
                    size += part["Size"]
                    touched = max(touched, part["LastModified"].timestamp())
        return size, touched

    def __call__(self) -> None:
        with _told(self.upload["Key"]):
            self.client.abort_multipart_upload(**self.upload)


@contextmanager
def _told(uri: str) -> Iterator[None]:
    """Raise what boto3 finds as an error of ours; an upload that is gone by now is none."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (ClientError, BotoCoreError) as error:
        if not (isinstance(error, ClientError) and error.response["Error"]["Code"] == "NoSuchUpload"):
            raise StoreError(f"unfinished uploads of {uri} cannot be listed or ended: {error}") from error


def _client(settings: StoreSettings) -> Any:
    """Make a boto3 client that reaches S3 as the store does."""
    import boto3
    from botocore.config import Config

    keys = {
        name: value
        for name, value in (
            ("aws_access_key_id", settings.access_key_id),
            ("aws_secret_access_key", settings.secret_access_key),
            ("aws_session_token", settings.session_token),
        )
        if value
    }
    session = settings.session or boto3.Session()
    return session.client(
        "s3",
        endpoint_url=settings.endpoint_url or None,
        region_name=settings.region or session.region_name or "us-east-1",
        config=Config(s3={"addressing_style": "path"}),
        **keys,
    )
