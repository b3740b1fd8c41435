"""Hear what libav complains of in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import av

Complaints = list[tuple[int, str, str]]
"""Level, origin and words of each."""


@contextmanager
def complaints() -> Iterator[Complaints]:
    """Collect the errors that are logged within the block."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as heard:
            yield heard
    finally:
        av.logging.set_level(level)
