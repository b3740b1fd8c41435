"""What was asked of an S3 through the fault proxy, and what became of each request."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

CONDITIONS = ("if-none-match", "if-match", "range", "x-amz-copy-source-if-match")
_KINDS = (
    ("manifest", r"(^|/)_manifests/\d{6}/r\d{3}\.json$"),
    ("receipt", r"\.receipt\.json$"),
    ("part", r"(^|/)(raw|clips|features)/.*/\d{6}/r\d{3}/[^/]+$"),
    ("derived", r"(^|/)(raw|clips|features)/.*_(index|catalogue)\.parquet$"),
    ("run", r"(^|/)runs/"),
    ("source", r"\.(tar|warc|warc\.gz|tfrecord)$"),
)


@dataclass(frozen=True)
class Request:
    """A request as it came in."""

    method: str
    bucket: str
    key: str
    query: str
    headers: Mapping[str, str]
    """Names in small letters."""
    body: bytes
    target: str
    """Path and query as they were sent."""

    @property
    def kind(self) -> str:
        """What it is about: a kind of object, 'list', 'bucket' or 'other'."""
        if not self.key:
            return "list" if self.method == "GET" and "uploads" not in self.query else "bucket"
        return next((kind for kind, pattern in _KINDS if re.search(pattern, self.key)), "other")

    @property
    def content(self) -> bytes:
        """The bytes to be stored, without the frames of a chunked signature."""
        if "aws-chunked" not in self.headers.get("content-encoding", ""):
            return self.body
        found, position = b"", 0
        while position < len(self.body):
            line = self.body.index(b"\r\n", position)
            size = int(self.body[position:line].split(b";")[0], 16)
            if size == 0:
                break
            found += self.body[line + 2 : line + 2 + size]
            position = line + 4 + size
        return found


def request_of(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Request:
    """Read a request whose bucket is the first part of its path."""
    asked = urlsplit(target)
    bucket, _, key = asked.path.lstrip("/").partition("/")
    small = {name.lower(): value for name, value in headers.items()}
    return Request(method, unquote(bucket), unquote(key), asked.query, small, body, target)


@dataclass(frozen=True)
class Entry:
    """A request and its end."""

    number: int
    """In the order of arrival, from 1."""
    method: str
    bucket: str
    key: str
    kind: str
    query: str
    conditions: tuple[tuple[str, str], ...]
    action: str
    """The fault that was applied; empty for none."""
    status: int
    """What the client was answered; 0 for nothing."""
    upstream_status: int
    """What the server behind answered; 0 where the request did not reach it."""
    size: int
    """Bytes that a PUT or POST brought."""
    sha256: str
    """Of what a PUT or POST brought, before any fault; empty for others."""

    @property
    def reached(self) -> bool:
        """Whether the request reached the server behind."""
        return self.upstream_status != 0


class History:
    """The entries so far; threads may add to it."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._lock = threading.Lock()
        self._arrived = 0

    def arrival(self) -> int:
        """Give the next number."""
        with self._lock:
            self._arrived += 1
            return self._arrived

    def add(self, number: int, request: Request, action: str, *, status: int, upstream_status: int) -> None:
        """Write down how a request ended."""
        brings = request.method in ("PUT", "POST")
        entry = Entry(
            number=number,
            method=request.method,
            bucket=request.bucket,
            key=request.key,
            kind=request.kind,
            query=request.query,
            conditions=tuple((name, request.headers[name]) for name in CONDITIONS if name in request.headers),
            action=action,
            status=status,
            upstream_status=upstream_status,
            size=len(request.content) if brings else 0,
            sha256=hashlib.sha256(request.content).hexdigest() if brings else "",
        )
        with self._lock:
            self._entries.append(entry)

    def entries(self, *, kind: str = "", method: str = "") -> list[Entry]:
        """List the requests that have ended or hang, in the order of arrival."""
        with self._lock:
            found = sorted(self._entries, key=lambda entry: entry.number)
        return [entry for entry in found if kind in ("", entry.kind) and method in ("", entry.method)]

    def clear(self) -> None:
        """Forget the entries; numbers go on."""
        with self._lock:
            self._entries.clear()

    def save(self, path: Path) -> None:
        """Write the entries as JSON lines."""
        path.write_text("".join(json.dumps(asdict(entry)) + "\n" for entry in self.entries()))
