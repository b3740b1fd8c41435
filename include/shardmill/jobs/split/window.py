"""What lies between the reader of a shard, those who cut its videos, and the publication that wants them in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from shardmill.jobs.split.cases import Case
from shardmill.specs.manifest import Reject

if TYPE_CHECKING:
    from shardmill.adapters.video.pieces import Pieces


MOST_CASES = 512
"""In flight at once, however small they are."""


class GivenUpError(RuntimeError):
    """The shard was given up."""


class Window:
    """Cases in flight. Bounded by the bytes that they take in scratch, the source's as well as the clips'."""

    def __init__(self, most_bytes: int) -> None:
        """Open an empty window; a case that alone is larger passes alone."""
        self._most = most_bytes
        self._held = 0
        self._waiting: list[Case] = []
        self._results: dict[int, tuple[Case, Pieces | Reject]] = {}
        self._order: list[int] = []
        self._whole = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def reserve(self, size: int) -> None:
        """Wait until so many bytes more may lie in scratch."""
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or not self._held or self._held + size <= self._most)
            self.check()
            self._held += size

    def release(self, size: int) -> None:
        """Give back what was reserved."""
        with self._changed:
            self._held -= size
            self._changed.notify_all()

    def put(self, case: Case) -> None:
        """Hand in the next case."""
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or len(self._order) < MOST_CASES)
            self.check()
            self._order.append(case.index)
            if case.refused is not None:
                self._held -= case.size
                self._results[case.index] = (case, case.refused)
            else:
                self._waiting.append(case)
            self._changed.notify_all()

    def close(self) -> None:
        """Say that no case comes any more."""
        with self._changed:
            self._whole = True
            self._changed.notify_all()

    def take(self) -> Case | None:
        """Give the largest case that waits, for what takes longest should not come last; None when all are taken."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._error is not None or bool(self._ready()) or (self._whole and not self._waiting)
            )
            if self._error is not None or not self._waiting:
                return None
            case = max(self._ready(), key=lambda waiting: (waiting.size, -waiting.index))
            self._waiting.remove(case)
            return case

    def _ready(self) -> list[Case]:
        """Give what may be cut: while too much lies in scratch, only what all others wait for."""
        if self._held <= self._most:
            return self._waiting
        return [case for case in self._waiting if case.index == self._order[0]]

    def finish(self, case: Case, result: Pieces | Reject) -> None:
        """Hand in what became of a case; its source is gone from scratch."""
        with self._changed:
            self._held += _size(result) - case.size
            self._results[case.index] = (case, result)
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Give up; everybody who waits learns it."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def results(self) -> Iterator[tuple[Case, Pieces | Reject]]:
        """Yield each case with its result, in the order of the shard. Raises what somebody failed with."""
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: (
                        self._error is not None
                        or (self._order and self._order[0] in self._results)
                        or (self._whole and not self._order)
                    )
                )
                if self._error is not None:
                    raise self._error
                if not self._order:
                    return
                case, result = self._results.pop(self._order.pop(0))
                self._changed.notify_all()
            yield case, result
            with self._changed:
                self._held -= _size(result)
                self._changed.notify_all()

    def check(self) -> None:
        """Raise GivenUpError where somebody failed."""
        if self._error is not None:
            raise GivenUpError("the shard was given up")


def _size(result: Pieces | Reject) -> int:
    return 0 if isinstance(result, Reject) else result.size
