"""A mirror of published files on loopback that can be told to misbehave."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def md5(content: bytes) -> Any:
    """Hash as the published lists do."""
    return hashlib.md5(content, usedforsecurity=False)


Misdeed = Callable[["Answer"], bool]
"""Changes or sends an answer; says whether it has sent it."""


@dataclass
class Answer:
    """What the mirror is about to send."""

    handler: BaseHTTPRequestHandler
    content: bytes
    start: int
    number: int
    """Of the request for this path, from 0."""

    def send(self, status: int, headers: dict[str, str], body: bytes = b"") -> bool:
        self.handler.send_response(status)
        for name, value in headers.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        if self.handler.command != "HEAD":
            self.handler.wfile.write(body)
        return True

    def cut(self) -> bool:
        """Break the connection off, at once."""
        self.handler.wfile.flush()
        self.handler.close_connection = True
        self.handler.connection.close()
        return True


@dataclass
class MirrorServer:
    """Published files by path, what it does wrong, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    misdeeds: dict[str, Misdeed] = field(default_factory=dict)
    """By path."""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and range of each request."""
    knows_ranges: bool = True
    url: str = ""
    most_at_once: int = 0
    _open: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def publish(self, partition: str, files: dict[str, bytes]) -> None:
        """Put files of a partition there, with their list."""
        version, level, split = partition.split("/")
        for name, content in files.items():
            self.files[f"/{partition}/{name}"] = content
        listed = {name: md5(content).hexdigest() for name, content in files.items()}
        self.files[f"/{version}/download_plans/{level}_{split}.json"] = json.dumps({"files": listed}).encode()

    def count(self, path: str, method: str = "GET") -> int:
        return sum(asked[:2] == (method, path) for asked in self.asked)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path, wanted = handler.path, handler.headers.get("Range", "")
        with self._lock:
            number = self.count(path, handler.command)
            self.asked.append((handler.command, path, wanted))
            self._open += handler.command == "GET"
            self.most_at_once = max(self.most_at_once, self._open)
        try:
            self._answer(handler, path, wanted, number)
        finally:
            with self._lock:
                self._open -= handler.command == "GET"

    def _answer(self, handler: BaseHTTPRequestHandler, path: str, wanted: str, number: int) -> None:
        content = self.files.get(path)
        start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted and self.knows_ranges else 0
        answer = Answer(handler, content or b"", start, number)
        if (misdeed := self.misdeeds.get(path)) is not None and misdeed(answer):
            return
        if content is None:
            answer.send(404, {"Content-Length": "0"})
            return
        tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        if start and handler.headers.get("If-Range") not in (None, tag):
            start = 0
        if start > len(content) or (start and start == len(content)):
            answer.send(416, {"Content-Length": "0", "Content-Range": f"bytes */{len(content)}"})
            return
        headers = {"ETag": tag, "Content-Length": str(len(content) - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        answer.send(206 if start else 200, headers, content[start:])


@contextmanager
def mirror_server() -> Iterator[MirrorServer]:
    server = MirrorServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.answer(self)

        def do_HEAD(self) -> None:
            server.answer(self)

        def log_message(self, *args: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    server.url = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
