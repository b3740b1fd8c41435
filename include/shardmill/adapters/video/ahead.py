"""Work on a stream of items in threads, a few ahead, and give the results in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def work_ahead(
    items: Iterable[Item], work: Callable[[Item, threading.Event], Result], workers: int
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with its result, in the order of the items.

    At most ``2 * workers`` items are taken before their turn, so that what lies in scratch stays bounded. The threads
    live until all is done: ffmpeg dies with the thread that started it. When the caller ends early, ``work`` learns
    it from the event.
    """
    stop = threading.Event()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="split")
    ahead: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            ahead.append((item, pool.submit(work, item, stop)))
            if len(ahead) > 2 * workers:
                first, future = ahead.popleft()
                yield first, future.result()
        while ahead:
            first, future = ahead.popleft()
            yield first, future.result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
