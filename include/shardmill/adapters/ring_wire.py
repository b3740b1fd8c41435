"""What goes over a ring's connections: a handshake by a shared token, then frames of a header and plain values."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DATA, BEAT, LOST = 1, 2, 3
"""Values; a sign of life; the rank that is lost. In the header of each stands a rank."""
_HEADER = struct.Struct("<IIQ")
"""Kind, rank, bytes that follow."""
_HELLO = struct.Struct("<16sI32s")
_MAGIC = b"shardmill ring 1"
_NONCE_BYTES = _PROOF_BYTES = 32
GREETING_SECONDS = 5.0
"""So long a connection has to prove the token; others wait behind it."""


class LostRankError(ConnectionError):
    """A worker cannot be reached any more."""

    def __init__(self, rank: int, why: str) -> None:
        super().__init__(f"rank {rank} {why}")
        self.rank = rank


@dataclass(frozen=True)
class Seat:
    """A rank's place in a ring."""

    rank: int
    addresses: tuple[tuple[str, int], ...]
    """Host and port of every rank."""
    token: bytes
    """Drawn by the driver for this one ring; a connection that does not prove it is refused."""


def listen(host: str) -> socket.socket:
    """Listen on a free port of one address of this machine."""
    return socket.create_server((host, 0), backlog=16)


def _proof(seat: Seat, role: bytes, connector: int, nonces: bytes) -> bytes:
    message = _MAGIC + role + struct.pack("<II", connector, len(seat.addresses)) + nonces
    return hmac.digest(seat.token, message, hashlib.sha256)


def _take(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        piece = connection.recv(count - len(found))
        if not piece:
            raise ConnectionError("the connection was closed in the greeting")
        found += piece
    return found


def shake_hands(seat: Seat, listener: socket.socket, limit: float) -> tuple[socket.socket, socket.socket]:
    """Connect to the rank behind and take the connection of the rank before; both prove the token to one another.

    Returns:
        The connections to the rank before and to the rank behind, which do not block.

    Raises:
        LostRankError: one of them was not there within ``limit`` seconds, or could not prove the token.
    """
    deadline = time.monotonic() + limit
    with ThreadPoolExecutor(1, "ring-call") as beside:
        calling = beside.submit(_call, seat, deadline)
        try:
            left = _take_call(seat, listener, deadline)
        except LostRankError:
            calling.add_done_callback(lambda call: None if call.exception() else call.result().close())
            raise
        try:
            right = calling.result()
        except LostRankError:
            left.close()
            raise
    for connection in (left, right):
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return left, right


def _call(seat: Seat, deadline: float) -> socket.socket:
    right = (seat.rank + 1) % len(seat.addresses)
    host, port = seat.addresses[right]
    try:
        connection = socket.create_connection((host, port), timeout=_seconds_to(deadline))
    except OSError as error:
        raise LostRankError(right, f"cannot be reached at {host}:{port}: {error}") from error
    nonce = secrets.token_bytes(_NONCE_BYTES)
    try:
        connection.sendall(_HELLO.pack(_MAGIC, seat.rank, nonce))
        connection.settimeout(_seconds_to(deadline))
        answer = _take(connection, _NONCE_BYTES + _PROOF_BYTES)
        nonces = nonce + answer[:_NONCE_BYTES]
        if not hmac.compare_digest(_proof(seat, b"called", seat.rank, nonces), answer[_NONCE_BYTES:]):
            raise ConnectionError("its answer does not prove the token of this training")
        connection.sendall(_proof(seat, b"caller", seat.rank, nonces))
    except OSError as error:
        connection.close()
        raise LostRankError(right, f"did not join: {error}") from error
    return connection


def _take_call(seat: Seat, listener: socket.socket, deadline: float) -> socket.socket:
    left, refused = (seat.rank - 1) % len(seat.addresses), 0
    while True:
        try:
            listener.settimeout(_seconds_to(deadline))
            connection, _ = listener.accept()
        except OSError as error:
            strangers = f"; {refused} connections that did not prove the token were refused" if refused else ""
            raise LostRankError(left, f"did not join in time{strangers}") from error
        try:
            _answer(seat, connection, left)
        except OSError:
            connection.close()
            refused += 1
        else:
            return connection


def _answer(seat: Seat, connection: socket.socket, left: int) -> None:
    connection.settimeout(GREETING_SECONDS)
    magic, rank, nonce = _HELLO.unpack(_take(connection, _HELLO.size))
    if magic != _MAGIC or rank != left:
        raise ConnectionError("not a rank of this ring")
    nonces = nonce + secrets.token_bytes(_NONCE_BYTES)
    connection.sendall(nonces[_NONCE_BYTES:] + _proof(seat, b"called", rank, nonces))
    if not hmac.compare_digest(_take(connection, _PROOF_BYTES), _proof(seat, b"caller", rank, nonces)):
        raise ConnectionError("the token of this training was not proven")


def _seconds_to(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.001)


class Outgoing:
    """Frames that wait to be sent."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.holds_values = False
        """Whether values wait, and not signs of life only."""
        self._waiting: deque[memoryview] = deque()

    @property
    def done(self) -> bool:
        return not self._waiting

    def add(self, kind: int, rank: int, values: npt.NDArray[np.generic] | None = None) -> None:
        """Put a frame behind the others; ``values`` are not copied."""
        size = 0 if values is None else values.nbytes
        self.holds_values = self.holds_values or kind == DATA
        self._waiting.append(memoryview(_HEADER.pack(kind, rank, size)))
        if values is not None and size:
            self._waiting.append(values.view(np.uint8).data)

    def send(self, rank: int) -> None:
        """Send what the connection to ``rank`` takes now. Raises LostRankError."""
        while self._waiting:
            try:
                sent = self.socket.send(self._waiting[0])
            except BlockingIOError:
                return
            except OSError as error:
                raise LostRankError(rank, f"closed its connection: {error}") from error
            if sent == self._waiting[0].nbytes:
                self._waiting.popleft()
            else:
                self._waiting[0] = self._waiting[0][sent:]
        self.holds_values = False

    def drop(self) -> None:
        """Give up what waits, for nobody is there to take it."""
        self._waiting.clear()
        self.holds_values = False


class Incoming:
    """Frames as they come; the values of one go where they are expected."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.done = True
        """Whether the expected values are there."""
        self.bytes = 0
        """How many bytes of them are there."""
        self._header = b""
        self._place = memoryview(b"")
        self._size: int | None = None
        """Bytes of the values whose header was read and that are not there yet."""
        self._ended = False

    @property
    def ahead(self) -> bool:
        """Whether the sender is ahead: values came that nobody expects yet, or it needed us no more and left."""
        return self.done and (self._size is not None or self._ended)

    def expect(self, place: npt.NDArray[np.generic]) -> None:
        """Name the array whose values come next."""
        self._place = place.view(np.uint8).data
        self.bytes, self.done = 0, False
        if self._size == 0 == self._place.nbytes:  # nothing more will come that a poll could tell of
            self.done, self._size = True, None

    def receive(self, rank: int) -> Iterator[tuple[int, int]]:
        """Take what came from ``rank``, up to values that nobody expects; yield kind and rank of other frames."""
        while not self.ahead:
            try:
                frame = self._receive_part()
            except BlockingIOError:
                return
            except OSError as error:
                self._ended = True
                if self.done:
                    return
                raise LostRankError(rank, f"closed its connection: {error}") from error
            if frame is not None:
                yield frame

    def _receive_part(self) -> tuple[int, int] | None:
        if self._size is None:
            return self._receive_header()
        self._receive_values(self._size)
        return None

    def _receive_header(self) -> tuple[int, int] | None:
        found = self.socket.recv(_HEADER.size - len(self._header))
        if not found:
            raise ConnectionError("it ended")
        self._header += found
        if len(self._header) < _HEADER.size:
            return None
        (kind, rank, size), self._header = _HEADER.unpack(self._header), b""
        if kind != DATA:
            return kind, rank
        self._size = size
        return None

    def _receive_values(self, size: int) -> None:
        if size != self._place.nbytes:
            raise ConnectionError(f"out of step: {size} bytes came where {self._place.nbytes} were expected")
        if size:
            count = self.socket.recv_into(self._place[self.bytes :])
            if not count:
                raise ConnectionError("it ended")
            self.bytes += count
        if self.bytes == size:
            self.done, self._size = True, None
