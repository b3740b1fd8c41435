"""Which instructions libav may use in this process, as ffmpeg's ``-cpuflags`` says it."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import av

_ONE_AT_A_TIME = threading.RLock()  # the flags are the whole process'


@cache
def _libavutil() -> ctypes.CDLL:
    """Give the library that PyAV brought along, which is in use already."""
    found = sorted((Path(av.__file__).parent.parent / "av.libs").glob("libavutil*.so*"))
    if not found:
        raise RuntimeError("expected PyAV from a wheel, with libavutil in av.libs beside it, found none")
    return ctypes.CDLL(str(found[0]))


@cache
def parse_cpu_flags(text: str) -> int:
    """Give the number of what ``-cpuflags`` takes."""
    flags = ctypes.c_uint(_libavutil().av_get_cpu_flags())
    if _libavutil().av_parse_cpu_caps(ctypes.byref(flags), text.encode()) < 0:
        raise ValueError(f"expected flags that ffmpeg knows, found {text}")
    return flags.value


@contextmanager
def cpu_flags(text: str) -> Iterator[None]:
    """Hold what begins in the block to some instructions; an empty text changes nothing.

    Libav asks when it sets something up, which it does when it begins, or when it first meets a part of a format.
    """
    if not text:
        yield
        return
    library, wanted = _libavutil(), parse_cpu_flags(text)
    with _ONE_AT_A_TIME:
        before = library.av_get_cpu_flags()
        library.av_force_cpu_flags(wanted)
        try:
            yield
        finally:
            library.av_force_cpu_flags(before)
