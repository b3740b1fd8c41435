"""Work on many files, some at once: every one is tried, and people see how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event, Lock
from typing import TypeVar

File = TypeVar("File")
Result = TypeVar("Result")
Say = Callable[[str], None]
TELL_SECONDS = 10.0
_MB = 1_000_000


class StoppedError(Exception):
    """Nobody waits for the work any more, e.g. for its time is up."""


class Pace:
    """How many files and bytes came in how many seconds; and the end of it all, for whoever works on a file."""

    def __init__(self, files: int, size: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        """``size`` is the bytes of all files together as far as is known; None where nothing is."""
        self._files, self._size, self._clock = files, size, clock
        self._started, self._lock, self._stopped = clock(), Lock(), Event()
        self.done, self.bytes = 0, 0

    def stop(self) -> None:
        """Let every thread end that works on a file: at its next bytes, or out of its pause."""
        self._stopped.set()

    def pause(self, seconds: float) -> None:
        """Wait before another try. Raises StoppedError."""
        if self._stopped.wait(seconds):
            raise StoppedError

    def counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Count bytes as they come. Raises StoppedError."""
        for chunk in chunks:
            self.take(len(chunk))
            yield chunk

    def take(self, count: int) -> None:
        """Count bytes that came. Raises StoppedError."""
        if self._stopped.is_set():
            raise StoppedError
        with self._lock:
            self.bytes += count

    def finish(self) -> None:
        """Count a file that is done."""
        with self._lock:
            self.done += 1

    @property
    def line(self) -> str:
        """How far it is, how fast, and when it will be done if it goes on so."""
        seconds = max(self._clock() - self._started, 1e-9)
        pace = f"{self.done} of {self._files} files, {self.bytes / _MB:,.1f} MB, {self.bytes / _MB / seconds:,.1f} MB/s"
        share = self.bytes / self._size if self._size else self.done / self._files
        if not 0 < share < 1:
            return pace
        left = round(seconds * (1 - share) / share)
        return f"{pace}, about {left // 60} min {left % 60:02d} s left"


@dataclass(frozen=True)
class Telling:
    """Who hears of the work."""

    say: Say
    show: Say = lambda line: None
    """Where people look while it runs."""
    hopeless: tuple[type[Exception], ...] = ()
    """Errors that another try cannot mend."""


def each_file(
    files: Sequence[File], work: Callable[[File], Result], at_once: int, pace: Pace, telling: Telling
) -> list[Result]:
    """Work on every file, whatever becomes of the others; raise then what another try may mend before what not.

    Args:
        at_once: most files that are worked on at the same time.

    Returns:
        The results, in the order of the files.
    """
    errors: list[Exception] = []
    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(work, file) for file in files]
        try:
            _wait(futures, pace, telling)
        except BaseException:
            pace.stop()
            pool.shutdown(cancel_futures=True)
            raise
    for future in futures:
        if isinstance(error := future.exception(), Exception):
            telling.say(f"failed: {type(error).__name__}: {error}")
            errors.append(error)
    if errors:
        raise next((error for error in errors if not isinstance(error, telling.hopeless)), errors[0])
    return [future.result() for future in futures]


def _wait(futures: Sequence[Future[Result]], pace: Pace, telling: Telling) -> None:
    """Wait for all, and tell now and then how far it is."""
    waiting, told = set(futures), time.monotonic()
    while waiting:
        done, waiting = wait(waiting, TELL_SECONDS, FIRST_COMPLETED)
        for _ in done:
            pace.finish()
        if not waiting or time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            telling.say(pace.line)
            telling.show(pace.line)
