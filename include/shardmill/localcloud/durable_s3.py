"""moto's S3 with its objects on disk: a wrapper that stores each change before it is answered.

All requests pass one lock: moto checks a condition and then sets the object, so that of two conditional writes at
once both would win. Bodies are read before the lock is taken, answers are sent after it is released.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qs

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import FakeBucket, FakeKey, FakeMultipart, S3Backend, s3_backends
from moto.s3.utils import CaseInsensitiveDict
from werkzeug.test import run_wsgi_app

from shardmill.localcloud.folder_page import Listed
from shardmill.localcloud.object_files import BucketFiles, ObjectRecord, list_buckets
from shardmill.localcloud.s3_requests import addressed, damaged, error_answer, precondition, read_body, unsupported

_LOG = logging.getLogger(__name__)
WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]


class FileBuffer:
    """What moto takes for an object's buffer: it reads the file on demand and holds nothing open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def seek(self, position: int) -> None:
        self._position = position

    def read(self, size: int = -1) -> bytes:
        with self._path.open("rb") as source:
            source.seek(self._position)
            found = source.read(size)
        self._position += len(found)
        return found

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class _Stored:
    key: FakeKey
    record: ObjectRecord


class DurableS3:
    """The WSGI application of moto's S3, with its content below a folder."""

    def __init__(self, app: WsgiApp, root: Path) -> None:
        self._app = app
        self._root = root
        self._lock = threading.Lock()
        self._stored: dict[str, dict[str, _Stored]] = {}
        root.mkdir(parents=True, exist_ok=True)
        for files in list_buckets(root):
            self._load_bucket(files)

    @property
    def _backend(self) -> S3Backend:
        return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]

    def listed(self, bucket: str) -> list[Listed] | None:
        """List the objects of a bucket; None where there is no such bucket."""
        with self._lock:
            if bucket not in self._stored:
                return None
            records = [stored.record for stored in self._stored[bucket].values()]
        return [Listed(record.key, record.size, record.modified) for record in records]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        read_body(environ)
        bucket, key = addressed(environ)
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        refusal = unsupported(environ["REQUEST_METHOD"], key, query) or damaged(environ)
        if refusal is not None:
            return refusal(environ, start_response)
        with self._lock:
            answer, status, headers = self._perform(environ, (bucket, key), query)
        start_response(status, list(headers))
        return answer

    def _perform(self, environ: dict[str, Any], place: tuple[str, str], query: dict[str, list[str]]) -> Any:
        bucket, key = place
        existing = self._stored.get(bucket, {}).get(key)
        refusal = precondition(environ, query, existing.record.etag if existing else None)
        if refusal is not None:
            return run_wsgi_app(refusal, environ)
        answer = run_wsgi_app(self._app, environ)
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD", "OPTIONS") and bucket:
            try:
                self._store(bucket, key)
            except OSError as error:
                _LOG.error("not stored bucket=%s key=%s error=%s", bucket, key, error)
                self._undo(bucket)
                message = f"The local S3 could not store it: {error.strerror}. Nothing was changed."
                return run_wsgi_app(error_answer(500, "InternalError", message), environ)
        return answer

    def _store(self, name: str, key: str) -> None:
        """Bring the disk to what moto holds: one key, or the whole bucket where the request names none."""
        bucket = self._backend.buckets.get(name)
        if bucket is None:
            if self._stored.pop(name, None) is not None:
                BucketFiles(self._root / name).delete()
            return
        files = BucketFiles(self._root / name)
        if name not in self._stored:
            files.create({"name": name, "region": bucket.region_name, "created": bucket.creation_date.timestamp()})
            self._stored[name] = {}
        for each in [key] if key else self._changed_keys(bucket):
            self._store_key(bucket, files, each)

    def _changed_keys(self, bucket: FakeBucket) -> list[str]:
        """List the keys that a request to the bucket as a whole, such as DeleteObjects, made, replaced or removed."""
        stored = self._stored[bucket.name]
        gone = [key for key in stored if key not in bucket.keys]
        return gone + [key for key, held in bucket.keys.items() if key not in stored or stored[key].key is not held]

    def _store_key(self, bucket: FakeBucket, files: BucketFiles, key: str) -> None:
        stored, held = self._stored[bucket.name].get(key), bucket.keys.get(key)
        if held is None:
            if stored is not None:
                files.remove(key)
                files.drop_content(stored.record.content)
                del self._stored[bucket.name][key]
            return
        if stored is not None and stored.key is held:
            record = self._record(held, stored.record.content)
            if record != stored.record:
                files.commit(record)
                self._stored[bucket.name][key] = _Stored(held, record)
            return
        buffer: BinaryIO = held._value_buffer
        etag = held.etag  # computed from the buffer, and kept
        buffer.seek(0)
        record = replace(self._record(held, files.add_content(buffer)), etag=etag.strip('"'))
        files.commit(record)
        self._stored[bucket.name][key] = _Stored(held, record)
        _put_on_disk(held, files.content_path(record.content))
        if stored is not None:
            files.drop_content(stored.record.content)

    def _record(self, key: FakeKey, content: str) -> ObjectRecord:
        checksum = {
            "algorithm": key.checksum_algorithm,
            "value": key.checksum_value,
            "type": key.checksum_type,
            "parts": key.checksum_parts,
        }
        return ObjectRecord(
            key=key.name,
            content=content,
            size=key.size,
            etag=key.etag.strip('"'),
            modified=key.last_modified.replace(tzinfo=UTC).timestamp(),
            storage_class=key.storage_class or "STANDARD",
            metadata=dict(key.metadata.items()),
            tags=self._backend.tagger.get_tag_dict_for_resource(key.arn),
            upload=key.multipart.id if key.multipart else "",
            encryption=key.encryption or "",
            redirect=key.website_redirect_location or "",
            checksum={name: value for name, value in checksum.items() if value is not None},
        )

    def _undo(self, name: str) -> None:
        """Bring moto back to what is on disk, after a change that could not be stored."""
        bucket = self._backend.buckets.get(name)
        if bucket is None or name not in self._stored:
            return
        for key in list(bucket.keys):
            if key not in self._stored[name]:
                bucket.keys.pop(key)
        for key, stored in self._stored[name].items():
            if bucket.keys.get(key) is not stored.key:
                bucket.keys.setlist(key, [stored.key])

    def _load_bucket(self, files: BucketFiles) -> None:
        about = files.about()
        bucket = self._backend.create_bucket(about["name"], about["region"])
        bucket.creation_date = datetime.fromtimestamp(about["created"], tz=UTC)
        self._stored[bucket.name] = {}
        for record in files.load():
            key = self._load_key(bucket, record)
            _put_on_disk(key, files.content_path(record.content))
            bucket.keys.setlist(record.key, [key])
            self._backend.put_object_tagging(key, record.tags)
            self._stored[bucket.name][record.key] = _Stored(key, record)

    def _load_key(self, bucket: FakeBucket, record: ObjectRecord) -> FakeKey:
        multipart = None
        if record.upload:
            multipart = FakeMultipart(record.key, CaseInsensitiveDict(), DEFAULT_ACCOUNT_ID, bucket.region_name)
            multipart.id = record.upload
        key = FakeKey(
            record.key,
            b"",
            DEFAULT_ACCOUNT_ID,
            bucket.region_name,
            storage=record.storage_class,
            etag=record.etag,
            version_id="null",
            multipart=multipart,
            bucket_name=bucket.name,
            encryption=record.encryption or None,
            checksum_value=record.checksum.get("value"),
            checksum_type=record.checksum.get("type"),
            checksum_parts=record.checksum.get("parts"),
        )
        key.contentsize = record.size
        key.last_modified = datetime.fromtimestamp(record.modified, tz=UTC).replace(tzinfo=None)
        key.checksum_algorithm = record.checksum.get("algorithm")
        key.website_redirect_location = record.redirect or None
        key.set_metadata(dict(record.metadata), replace=True)
        return key


def _put_on_disk(key: FakeKey, path: Path) -> None:
    """Let moto read the object from our file, and free what it held of it and of the parts it was made from."""
    key._value_buffer.close()
    key._value_buffer = FileBuffer(path)  # type: ignore[assignment]
    if key.multipart is not None:
        for part in key.multipart.parts.values():
            part.dispose()
        key.multipart.parts.clear()
