"""A worker's own watch: what it does now, what it said last, and an end to it when it hangs."""

from __future__ import annotations

import faulthandler
import os
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from shardmill.adapters.store import Store
from shardmill.specs.training_run import RankFailure

SETUP_SECONDS = 900.0
"""Importing TensorFlow and building the model may take so long on a busy machine."""
KEPT_LINES = 30
LEAST_SECONDS = 60.0
"""Making a graph for a new shape may take so long, however soon workers are to be missed."""
_EXIT_CODE = 3


class Watch:
    """Watches the thread that made it.

    ``mark`` says that it goes on. Where it does not for ``stall_seconds``, the stacks of all threads are written to
    the worker's error output and to the run's folder, the reason is left there, and the process ends: a thread that
    hangs cannot be ended in any other way. Time in ``elsewhere`` does not count: those waits have limits of their own.
    """

    def __init__(self, store: Store, attempt: str, rank: int, stall_seconds: float) -> None:
        """Watch, with a generous limit until the first ``mark``."""
        self._store, self._attempt, self._rank = store, attempt, rank
        self._stall_seconds, self._limit = max(stall_seconds, LEAST_SECONDS), max(stall_seconds, SETUP_SECONDS)
        self._doing, self._since = "start", time.monotonic()
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._ended = threading.Event()
        threading.Thread(target=self._look, name="watch", daemon=True).start()

    def say(self, line: str) -> None:
        """Write a line to the worker's log and keep it for a message."""
        self._lines.append(line)
        print(f"{time.strftime('%H:%M:%S')} rank {self._rank}: {line}", file=sys.stderr, flush=True)

    def mark(self, doing: str) -> None:
        """Say that the thread goes on, and with what."""
        self._doing, self._since, self._limit = doing, time.monotonic(), self._stall_seconds

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Wait for others."""
        limit, self._limit = self._limit, float("inf")
        try:
            yield
        finally:
            self._since, self._limit = time.monotonic(), limit

    def fail(self, error: BaseException, *, is_final: bool, is_cause: bool) -> None:
        """Leave the reason for the driver."""
        failure = RankFailure(
            attempt=self._attempt,
            rank=self._rank,
            error=type(error).__name__,
            message="\n".join([str(error), *getattr(error, "__notes__", ())]),
            is_final=is_final,
            is_cause=is_cause,
            log=tuple(self._lines),
        )
        self._store.put(f"training/failures/{self._attempt}-{self._rank:05d}.json", failure.to_json())

    def dump_stacks(self, error: BaseException | None = None) -> str:
        """Write the stacks of all threads to the error output and to the run's folder; give their URI there.

        Args:
            error: what ended a thread's work: where that happened is written first, for its stack is gone.
        """
        key = f"training/stacks/{self._attempt}-{self._rank:05d}.txt"
        with tempfile.TemporaryFile() as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            content = "".join(traceback.format_exception(error)).encode() + file.read() if error else file.read()
        print(content.decode(errors="replace"), file=sys.stderr, flush=True)
        self._store.put(key, content)
        return self._store.uri_of(key)

    def close(self) -> None:
        """End the watch."""
        self._ended.set()

    def _look(self) -> None:
        while not self._ended.wait(1.0):
            still = time.monotonic() - self._since
            if still > self._limit:
                self._end(still)

    def _end(self, still: float) -> None:
        try:
            stalled = TimeoutError(f"rank {self._rank} stalled for {still:.0f} s in: {self._doing}")
            self.say(str(stalled))
            self.say(f"stacks: {self.dump_stacks()}")
            self.fail(stalled, is_final=False, is_cause=True)
        finally:
            os._exit(_EXIT_CODE)
