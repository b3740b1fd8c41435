"""The ways out of a machine's network: to the local AWS, and to package indexes by name. Threads outside answer."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Collection
from contextlib import suppress

_LOG = logging.getLogger(__name__)
PROXY_PORT = 3128
_CHUNK = 1 << 16
_HEAD_BYTES = 16 * 1024
_CONNECT_SECONDS = 30.0
_IDLE_SECONDS = 300.0
_HTTPS = 443

Serve = Callable[[socket.socket], None]


def relay_to(address: tuple[str, int]) -> Serve:
    """Give what hands a connection on to one address."""

    def serve(inside: socket.socket) -> None:
        with socket.create_connection(address, _CONNECT_SECONDS) as outside:
            pump_both(inside, outside)

    return serve


def proxy_for(hosts: Collection[str]) -> Serve:
    """Give a proxy that takes ``CONNECT host:443`` for these hosts and refuses every other."""

    def serve(inside: socket.socket) -> None:
        inside.settimeout(_CONNECT_SECONDS)
        head = _read_head(inside)
        method, _, rest = head.partition(b" ")
        host, _, port = rest.split(b" ")[0].decode(errors="replace").rpartition(":")
        if method != b"CONNECT" or host not in hosts or port != str(_HTTPS):
            asked = head.split(b"\r\n")[0].decode(errors="replace")
            _LOG.warning("a machine asked for what it may not have asked=%r", asked[:200])
            inside.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
            return
        try:
            outside = socket.create_connection((host, _HTTPS), _CONNECT_SECONDS)
        except OSError as error:
            _LOG.warning("no way to the package index host=%s error=%s", host, error)
            inside.sendall(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
            return
        with outside:
            inside.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            pump_both(inside, outside)

    return serve


def _read_head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES:
        more = connection.recv(_HEAD_BYTES)
        if not more:
            break
        head += more
    return head


def pump_both(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until both sides have ended theirs."""
    for end in (one, other):
        end.settimeout(_IDLE_SECONDS)
    back = threading.Thread(target=_pump, args=(other, one), name="machine-relay", daemon=True)
    back.start()
    _pump(one, other)
    back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):  # the other side broke off: what comes after it is nobody's
        while chunk := source.recv(_CHUNK):
            target.sendall(chunk)
    for end, how in ((source, socket.SHUT_RD), (target, socket.SHUT_WR)):
        with suppress(OSError):
            end.shutdown(how)


class Relay:
    """Answers what connects to a listener that lies in a machine's network, each connection by a thread."""

    def __init__(self, listener: socket.socket, serve: Serve) -> None:
        self._listener = listener
        self._serve = serve
        threading.Thread(target=self._accept, name="machine-relay", daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._answer, args=(connection,), name="machine-relay", daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                self._serve(connection)
            except OSError as error:
                _LOG.warning("a machine's connection ended early error=%s", error)
