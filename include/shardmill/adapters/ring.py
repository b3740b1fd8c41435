"""A ring of workers that add up vectors: all-reduce over plain TCP, each connection proven, each wait bounded."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from shardmill.adapters.ring_wire import (
    BEAT,
    DATA,
    LOST,
    Incoming,
    LostRankError,
    Outgoing,
    Seat,
    shake_hands,
)

BEAT_SECONDS = 1.0
"""A worker says so often that it is there."""
TELL_SECONDS = 1.0
"""So long a worker that leaves tries to tell the next one why."""
ADDED_AT_ONCE = 65_536
"""Values that are added as soon as they are there, while those behind them are on their way."""
Numbers = npt.NDArray[np.generic]
Number = TypeVar("Number", np.float32, np.float64, np.int64)


class Ring:
    """One worker's place in a ring; it receives from the rank before it and sends to the rank behind it.

    ``sum`` is called by all ranks in the same order with arrays of the same shape. While one computes, a thread of it
    tells the next that it is there; who finds a rank silent tells the next which, so that all name the same.
    """

    def __init__(self, seat: Seat, listener: socket.socket, *, join_seconds: float, silent_seconds: float) -> None:
        """Join the ring.

        Args:
            listener: listens at this rank's address.
            join_seconds: limit for all ranks to be there.
            silent_seconds: so long may a rank that is waited for be silent.

        Raises:
            LostRankError: a neighbour did not join, or could not prove the run's token.
        """
        self.rank, self.size = seat.rank, len(seat.addresses)
        self.silent_seconds = silent_seconds
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._beat_seconds, self._said = min(BEAT_SECONDS, silent_seconds / 5), 0.0
        if self.size == 1:
            return
        left, right = shake_hands(seat, listener, join_seconds)
        self._incoming, self._outgoing = Incoming(left), Outgoing(right)
        threading.Thread(target=self._beat, name="ring-beat", daemon=True).start()

    @property
    def _left(self) -> int:
        return (self.rank - 1) % self.size

    @property
    def _right(self) -> int:
        return (self.rank + 1) % self.size

    def sum(self, values: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """Add up an array over all ranks, in place; every rank gets the same bytes.

        Reduce-scatter, then all-gather (Patarasuk and Yuan 2009): 2 (n - 1) / n of the array go out of every rank.

        Args:
            values: one-dimensional, contiguous, of float32, float64 or int64.

        Raises:
            LostRankError: a rank is gone, or was silent for ``silent_seconds``; names it. The ring is closed then.
        """
        if self.size == 1:
            return values
        self._check_open()
        pieces = np.array_split(values, self.size)
        scratch = np.empty(len(pieces[0]), values.dtype)
        with self._lock, self._ends_on_loss():
            for step in range(self.size - 1):
                out, into = (self.rank - step) % self.size, (self.rank - step - 1) % self.size
                self._exchange(pieces[out], pieces[into], scratch[: len(pieces[into])])
            for step in range(self.size - 1):
                out, into = (self.rank + 1 - step) % self.size, (self.rank - step) % self.size
                self._exchange(pieces[out], pieces[into], None)
        return values

    def gather(self, row: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Give every rank's row to every rank; float64 [ranks, values]."""
        rows = np.zeros((self.size, len(row)), np.float64)
        rows[self.rank] = row
        return self.sum(rows.reshape(-1)).reshape(rows.shape)

    def fold(self, own: bytes, merge: Callable[[bytes, bytes], bytes]) -> bytes:
        """Merge the bytes of all ranks, which may be of any length, along the ring: rank 1 begins, rank 0 has all.

        Returns:
            At rank 0 what came of all; elsewhere of the ranks from 1 to this one.
        """
        if self.size == 1:
            return own
        self._check_open()
        if self.rank != 1:
            with self._lock, self._ends_on_loss():
                length = np.zeros(1, np.int64)
                self._exchange(None, length, None)
                content = np.zeros(int(length[0]), np.uint8)
                self._exchange(None, content, None)
            own = merge(content.tobytes(), own)  # without the lock, so that signs of life go on
        if self.rank != 0:
            with self._lock, self._ends_on_loss():
                self._exchange(np.array([len(own)], np.int64), None, None)
                self._exchange(np.frombuffer(own, np.uint8), None, None)
        return own

    def close(self) -> None:
        """Leave the ring; the others' waits for this rank end."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self.size > 1:
            for end in (self._incoming.socket, self._outgoing.socket):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise LostRankError(self.rank, "left the ring before")

    @contextlib.contextmanager
    def _ends_on_loss(self) -> Iterator[None]:
        try:
            yield
        except LostRankError as error:
            self._tell(error.rank)
            self.close()
            raise

    def _tell(self, lost: int) -> None:
        self._outgoing.add(LOST, lost)
        deadline = time.monotonic() + TELL_SECONDS
        poll = select.poll()
        poll.register(self._outgoing.socket, select.POLLOUT)
        with contextlib.suppress(LostRankError):
            while not self._outgoing.done and time.monotonic() < deadline:
                poll.poll(1000 * TELL_SECONDS)
                self._outgoing.send(self._right)

    def _exchange(self, out: Numbers | None, into: npt.NDArray[Any] | None, scratch: npt.NDArray[Any] | None) -> None:
        """Send a piece while receiving another, which is added where there is ``scratch`` to receive it in."""
        if out is not None:
            self._outgoing.add(DATA, self.rank, out)
        if into is not None:
            self._incoming.expect(into if scratch is None else scratch)
        added, heard = 0, time.monotonic()
        while not (self._incoming.done and self._outgoing.done):
            received = self._step(heard)
            heard = time.monotonic() if received else heard
            if scratch is None or into is None or not received:
                continue
            there = self._incoming.bytes // into.itemsize
            if there - added >= ADDED_AT_ONCE or self._incoming.done:
                into[added:there] += scratch[added:there]
                added = there

    def _step(self, heard: float) -> bool:
        """Send and receive what can be, after waiting a beat at most. Returns whether something came."""
        poll = select.poll()
        if not self._incoming.ahead:
            poll.register(self._incoming.socket, select.POLLIN)
        if not self._outgoing.done:
            poll.register(self._outgoing.socket, select.POLLOUT)
        ready = dict(poll.poll(1000 * self._beat_seconds))
        if self._outgoing.socket.fileno() in ready:
            self._send()
        # Also while the rank before says that it is there: its signs end here, and the rank behind waits for ours.
        if self._outgoing.done and not self._incoming.done and time.monotonic() - self._said >= self._beat_seconds:
            self._outgoing.add(BEAT, self.rank)
            self._said = time.monotonic()
        if self._incoming.socket.fileno() in ready:
            self._hear()
            return True
        # Only the rank before is judged: the one behind may compute for long before it takes what we send, and if it is
        # dead, the rank behind it says so, and it comes around.
        if not self._incoming.ahead and time.monotonic() - heard > self.silent_seconds:
            raise LostRankError(self._left, f"was silent for {self.silent_seconds:.0f} s")
        return self._incoming.ahead

    def _send(self) -> None:
        """Send what can be; signs of life may fail, for the rank behind leaves when it needs nothing more.

        If it is dead, the rank behind it finds out.
        """
        try:
            self._outgoing.send(self._right)
        except LostRankError as error:
            if self._outgoing.holds_values:
                raise self._first_lost(error) from error
            self._outgoing.drop()

    def _first_lost(self, error: LostRankError) -> LostRankError:
        """Hear for a moment whether the rank behind left because of another one: that one is to be named."""
        deadline = time.monotonic() + TELL_SECONDS
        poll = select.poll()
        poll.register(self._incoming.socket, select.POLLIN)
        while not self._incoming.ahead and (seconds := deadline - time.monotonic()) > 0:
            poll.poll(1000 * seconds)
            try:
                self._hear()
            except LostRankError as told:
                return told
        return error

    def _hear(self) -> None:
        for kind, rank in self._incoming.receive(self._left):
            if kind == LOST:
                raise LostRankError(rank, f"is lost, as rank {self._left} tells")

    def _beat(self) -> None:
        while not self._closed.wait(self._beat_seconds):
            if not self._lock.acquire(blocking=False):
                continue  # a sum is under way, which does so itself
            try:
                if self._outgoing.done:
                    self._outgoing.add(BEAT, self.rank)
                self._outgoing.send(self._right)
            except (LostRankError, OSError):
                return  # the next sum says so
            finally:
                self._lock.release()
