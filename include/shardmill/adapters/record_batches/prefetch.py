"""An iterator worked ahead by a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Prefetch(Generic[Item]):
    """Takes items from a source ahead of its consumer, at most ``depth`` of them.

    An error of the source is raised at the consumer, behind the items that came before it.
    """

    def __init__(self, source: Iterable[Item], depth: int, name: str) -> None:
        self._source = source
        self._ready: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._places = threading.Semaphore(depth)
        self._is_closed = False
        self._error: BaseException | None = None
        # A daemon: whoever ends the process without closing must not wait for the lake.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._fill()
        except BaseException as error:  # noqa: BLE001  (raised where the items are taken)
            self._error = error
        finally:
            self._ready.put(None)

    def _fill(self) -> None:
        for item in self._source:
            self._places.acquire()
            if self._is_closed:
                return
            self._ready.put(item)

    def __iter__(self) -> Iterator[Item]:
        while (item := self._ready.get()) is not None:
            self._places.release()
            yield item
        self._ready.put(None)  # for whoever asks once more
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the thread, at the latest when it has its next item, and wait for that."""
        self._is_closed = True
        self._places.release()
        self._thread.join()
