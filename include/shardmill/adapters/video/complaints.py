"""Hear what libav complains of in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import av

Complaints = list[tuple[int, str, str]]
"""Level, origin and words of each."""


_HEARING = threading.local()


@contextmanager
def complaints() -> Iterator[Complaints]:
    """Collect the errors that this thread logs within the block; a block within a block collects into the same list.

    Libav does not say who complains: pictures and sound are read in turn, and either may be heard by both.
    """
    outer: Complaints | None = getattr(_HEARING, "list", None)
    if outer is not None:
        yield outer
        return
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as heard:
            _HEARING.list = heard
            yield heard
    finally:
        _HEARING.list = None
        av.logging.set_level(level)
