"""A fake of the part of Google Cloud Storage's XML API that obstore speaks, in memory, on loopback."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

STAMP = "2026-01-01T00:00:00.000Z"
PAGE = 1000


@dataclass(frozen=True)
class Stored:
    """An object as it was put."""

    content: bytes
    generation: int

    @property
    def etag(self) -> str:
        """The generation too: equal content put again is another version."""
        return f'"{hashlib.md5(self.content, usedforsecurity=False).hexdigest()}-{self.generation}"'


class Asked(NamedTuple):
    """A request."""

    method: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in small letters."""
    body: bytes


class Answer(NamedTuple):
    """What is answered."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


def _refusal(status: int, code: str, message: str) -> Answer:
    return Answer(status, f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>".encode())


def _of(stored: Stored, body: bytes = b"", status: int = 200) -> Answer:
    headers = {
        "ETag": stored.etag,
        "x-goog-generation": str(stored.generation),
        "Last-Modified": formatdate(0, usegmt=True),
    }
    return Answer(status, body, headers)


@dataclass
class Bucket:
    """The objects and open uploads of a bucket. Each request is dealt with alone."""

    name: str
    page: int = PAGE
    """Most keys in one answer to a listing."""
    objects: dict[str, Stored] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    lists: int = 0
    """Listings answered, a page each."""
    _generation: int = 1_700_000_000_000_000
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, asked: Asked) -> Answer:
        """Do what is asked, whole or not at all."""
        with self._lock:
            if not asked.key:
                return self._list(asked) if asked.method == "GET" else _refusal(400, "InvalidRequest", "only listings")
            if "uploads" in asked.query or "uploadId" in asked.query:
                return self._upload(asked)
            if asked.method == "PUT":
                return self._put(asked)
            stored = self.objects.get(asked.key)
            if stored is None:
                return _refusal(404, "NoSuchKey", f"{asked.key} is not there")
            if asked.method == "DELETE":
                return self._delete(asked, stored)
            return _read(asked, stored)

    def _refused(self, asked: Asked) -> Answer | None:
        wanted = asked.headers.get("x-goog-if-generation-match")
        present = self.objects.get(asked.key)
        if wanted is None or int(wanted) == (present.generation if present else 0):
            return None
        return _refusal(412, "PreconditionFailed", f"generation {present and present.generation}, expected {wanted}")

    def _store(self, key: str, content: bytes) -> Stored:
        self._generation += 1
        self.objects[key] = Stored(content, self._generation)
        return self.objects[key]

    def _put(self, asked: Asked) -> Answer:
        if refused := self._refused(asked):
            return refused
        if (source := asked.headers.get("x-goog-copy-source")) is None:
            return _of(self._store(asked.key, asked.body))
        bucket, _, key = unquote(source).lstrip("/").partition("/")
        if bucket != self.name or key not in self.objects:
            return _refusal(404, "NoSuchKey", f"{source} is not there")
        copied = self._store(asked.key, self.objects[key].content)
        return _of(copied, f"<CopyObjectResult><ETag>{escape(copied.etag)}</ETag></CopyObjectResult>".encode())

    def _delete(self, asked: Asked, stored: Stored) -> Answer:
        if refused := self._refused(asked):
            return refused
        del self.objects[asked.key]
        return Answer(204)

    def _upload(self, asked: Asked) -> Answer:
        if asked.method == "POST" and "uploads" in asked.query:
            self._generation += 1
            upload = f"upload-{self._generation}"
            self.uploads[upload] = {}
            about = f"<Bucket>{self.name}</Bucket><Key>{escape(asked.key)}</Key><UploadId>{upload}</UploadId>"
            root = "InitiateMultipartUploadResult"
            return Answer(200, f"<{root}>{about}</{root}>".encode())
        upload = asked.query["uploadId"]
        if upload not in self.uploads:
            return _refusal(404, "NoSuchUpload", f"{upload} is not open")
        if asked.method == "PUT":
            self.uploads[upload][int(asked.query["partNumber"])] = asked.body
            return Answer(200, headers={"ETag": _part_etag(asked.body)})
        if asked.method == "DELETE":
            del self.uploads[upload]
            return Answer(204)
        return self._complete(asked, upload)

    def _complete(self, asked: Asked, upload: str) -> Answer:
        if refused := self._refused(asked):
            return refused
        parts, content = self.uploads[upload], b""
        named = ElementTree.fromstring(asked.body)  # noqa: S314  # written by this very process
        for part in named.iterfind(".//{*}Part"):
            number, etag = int(part.findtext("{*}PartNumber", "0")), part.findtext("{*}ETag", "")
            if number not in parts or etag.strip('"') != _part_etag(parts[number]).strip('"'):
                return _refusal(400, "InvalidPart", f"part {number} is not there as {etag}")
            content += parts[number]
        del self.uploads[upload]
        stored = self._store(asked.key, content)
        root = "CompleteMultipartUploadResult"
        about = f"<Bucket>{self.name}</Bucket><Key>{escape(asked.key)}</Key><ETag>{escape(stored.etag)}</ETag>"
        return _of(stored, f"<{root}>{about}</{root}>".encode())

    def _list(self, asked: Asked) -> Answer:
        self.lists += 1
        prefix, delimiter = asked.query.get("prefix", ""), asked.query.get("delimiter", "")
        after = max(asked.query.get("continuation-token", ""), asked.query.get("start-after", ""))
        names = sorted({_shown(key, prefix, delimiter) for key in self.objects if key.startswith(prefix)})
        left = [name for name in names if name > after]
        page = left[: min(self.page, int(asked.query.get("max-keys", self.page)))]
        lines = [self._line(name) for name in page]
        if len(page) < len(left):
            lines.append(f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>")
        more = str(len(page) < len(left)).lower()
        lines.append(f"<IsTruncated>{more}</IsTruncated><Name>{self.name}</Name>")
        return Answer(200, f"<ListBucketResult>{''.join(lines)}</ListBucketResult>".encode())

    def _line(self, name: str) -> str:
        stored = self.objects.get(name)
        if stored is None:
            return f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
        return (
            f"<Contents><Key>{escape(name)}</Key><Size>{len(stored.content)}</Size>"
            f"<LastModified>{STAMP}</LastModified><ETag>{escape(stored.etag)}</ETag></Contents>"
        )


def _part_etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def _shown(key: str, prefix: str, delimiter: str) -> str:
    """Give a key, or its folder below the prefix where the listing is of one level."""
    inside, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
    return prefix + inside + found if found else key


def _read(asked: Asked, stored: Stored) -> Answer:
    if asked.headers.get("if-match", stored.etag) not in ("*", stored.etag):
        return _refusal(412, "PreconditionFailed", f"{stored.etag} is there, expected {asked.headers['if-match']}")
    if asked.headers.get("if-none-match") in ("*", stored.etag):
        return _of(stored, status=304)
    wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", asked.headers.get("range", ""))
    if wanted is None:
        return _of(stored, stored.content)
    size = len(stored.content)
    if not wanted[1]:
        first, last = max(0, size - int(wanted[2])), size - 1
    else:
        first, last = int(wanted[1]), min(int(wanted[2] or size - 1), size - 1)
    if first > last:
        return _refusal(416, "InvalidRange", f"{size} bytes are there, {wanted[0]} was asked for")
    part = _of(stored, stored.content[first : last + 1], 206)
    return part._replace(headers={**part.headers, "Content-Range": f"bytes {first}-{last}/{size}"})


class GcsFake:
    """A server of one bucket; it listens on a loopback port until it is closed."""

    def __init__(self, bucket: str, *, page: int = PAGE) -> None:
        """Start with an empty bucket."""
        self.bucket = Bucket(bucket, page)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.bucket = self.bucket
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="gcs-fake", daemon=True).start()

    def __enter__(self) -> GcsFake:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def service_account(self) -> str:
        """The JSON that, as a service account's key, leads obstore here."""
        empty = {"client_email": "", "private_key": "", "private_key_id": ""}
        return json.dumps({"gcs_base_url": self.endpoint, "disable_oauth": True, **empty})

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    bucket: Bucket


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a test looks at the answers."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        target = urlsplit(self.path)
        bucket, _, key = target.path.lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(target.query, keep_blank_values=True).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        held = self.server.bucket
        asked = Asked(self.command, unquote(key), query, headers, body)
        answer = held.answer(asked) if unquote(bucket) == held.name else _refusal(404, "NoSuchBucket", bucket)
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815
