"""A loopback proxy in front of an S3 that answers, loses, delays and damages what it is told to."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit

from faults.s3_history import History, Request, request_of
from faults.s3_rules import CountedRule, Rule

WRONG_ETAG = '"0123456789abcdef0123456789abcdef"'
UPSTREAM_SECONDS = 60
_ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    "<Error><Code>{}</Code><Message>{}</Message><RequestId>0</RequestId><HostId>0</HostId></Error>"
)
_REFUSALS = {
    "internal_error": (500, _ERROR.format("InternalError", "We encountered an internal error. Please try again.")),
    "slow_down": (503, _ERROR.format("SlowDown", "Please reduce your request rate.")),
}
_HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "expect", "te", "trailer", "upgrade")


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    announced: int
    """Content-Length."""

    def with_header(self, name: str, value: str) -> _Answer:
        kept = tuple((key, old) for key, old in self.headers if key.lower() != name.lower())
        return replace(self, headers=(*kept, (name, value)))


_flips = itertools.count(1)


def _flipped(content: bytes) -> bytes:
    """Flip a byte, each time elsewhere: damage on the way does not strike two reads at one place."""
    if not content:
        return content
    place = (len(content) // 2 + 7919 * next(_flips)) % len(content)
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


def _half(answer: _Answer) -> _Answer:
    return replace(answer, body=answer.body[: len(answer.body) // 2])


def _half_announced(answer: _Answer) -> _Answer:
    return replace(_half(answer), announced=len(answer.body) // 2)


_SPOILED: Mapping[str, Callable[[_Answer], _Answer]] = {
    "truncate": _half,
    "truncate_silently": _half_announced,
    "flip": lambda answer: replace(answer, body=_flipped(answer.body)),
}


class S3Proxy:
    """A proxy that listens on a loopback port until it is closed.

    ``rules`` are asked in their order for every request; the first that strikes decides, all that match are counted.
    """

    def __init__(self, upstream: str) -> None:
        """Start in front of an endpoint such as ``http://127.0.0.1:5000``."""
        self.upstream = upstream
        self.history = History()
        self.released = threading.Event()
        self._rules: list[CountedRule] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="s3-proxy", daemon=True).start()

    def __enter__(self) -> S3Proxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def add(self, *rules: Rule) -> None:
        """Add rules behind those there are."""
        with self._lock:
            self._rules += [CountedRule(rule) for rule in rules]

    def clear(self) -> None:
        """Forget rules and history."""
        with self._lock:
            self._rules.clear()
        self.history.clear()

    def release(self) -> None:
        """Break the connections that hang; later ones hang again."""
        self.released.set()
        self.released = threading.Event()

    def strike(self, request: Request) -> str:
        """Decide which fault a request meets; empty for none."""
        with self._lock:
            struck = [counted.rule.action for counted in self._rules if counted.strikes(request)]
        return struck[0] if struck else ""

    def forward(self, request: Request, body: bytes) -> _Answer:
        """Ask the server behind."""
        host = urlsplit(self.upstream)
        connection = http.client.HTTPConnection(host.hostname or "", host.port or 80, timeout=UPSTREAM_SECONDS)
        headers = {name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP}
        # The client's Host stays: it is signed.
        if body or request.method in ("PUT", "POST"):
            headers["content-length"] = str(len(body))
        with contextlib.closing(connection):
            connection.request(request.method, request.target, body or None, headers)
            answered = connection.getresponse()
            content = answered.read()
            length = int(answered.headers.get("Content-Length") or len(content))
            kept = tuple(
                (name, value)
                for name, value in answered.getheaders()
                if name.lower() not in (*_HOP_BY_HOP, "content-length")
            )
            return _Answer(answered.status, kept, content, length if request.method == "HEAD" else len(content))

    def close(self) -> None:
        """Stop listening; connections that hang are broken."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    proxy: S3Proxy


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the history tells."""

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return found

    def _handle(self) -> None:
        request = request_of(self.command, self.path, dict(self.headers), self._body())
        proxy = self.server.proxy
        number, action = proxy.history.arrival(), proxy.strike(request)

        def note(status: int, upstream_status: int) -> None:
            proxy.history.add(number, request, action, status=status, upstream_status=upstream_status)

        if action in _REFUSALS:
            status, message = _REFUSALS[action]
            note(status, 0)
            self._send(_error(status, message))
        elif action in ("hang", "reset"):
            note(0, 0)
            self._break(wait=action == "hang")
        else:
            body = _flipped(request.body) if action == "flip_request" and request.body else request.body
            answer = proxy.forward(request, body)
            if action in ("hang_after", "reset_after"):
                note(0, answer.status)
                self._break(wait=action == "hang_after")
                return
            spoiled = _spoil(answer, action, request)
            note(spoiled.status, answer.status)
            self._send(spoiled)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815

    def _break(self, *, wait: bool) -> None:
        if wait:
            self.server.proxy.released.wait()
        self.close_connection = True
        # Closed without lingering, a connection is reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _send(self, answer: _Answer) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client has gone; the history is written
            self.send_response_only(answer.status)
            for name, value in answer.headers:
                self.send_header(name, value)
            if answer.status not in (204, 304):
                self.send_header("Content-Length", str(answer.announced))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)
                self.close_connection = self.close_connection or len(answer.body) < answer.announced


def _error(status: int, message: str) -> _Answer:
    body = message.encode()
    return _Answer(status, (("Content-Type", "application/xml"),), body, len(body))


def _spoil(answer: _Answer, action: str, request: Request) -> _Answer:
    if action == "internal_error_after":
        return _error(*_REFUSALS["internal_error"])
    if action == "wrong_etag":
        return answer.with_header("ETag", WRONG_ETAG)
    if action in _SPOILED and request.method == "GET" and answer.status in (200, 206) and answer.body:
        return _SPOILED[action](answer)
    return answer
