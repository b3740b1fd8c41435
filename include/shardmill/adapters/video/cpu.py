"""Which instructions of the CPU may touch sound: the last bits of floating point differ between them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import av.utils

SOUND_CPU_FLAGS = "avx"
"""As ffmpeg's ``-cpuflags``. Measured: the PCM of AAC, MP3, Opus, Vorbis and AC-3, resampled sound and encoded AAC
all differ with them; pictures do not, for decoders are exact, the scaler is told to be, and x264 is from AVX on."""
# The module is linked against libavutil, wherever that lies: its symbols are found through it.
_LIBAVUTIL = ctypes.CDLL(av.utils.__file__)
_AS_FOUND = -1


@contextmanager
def pinned(flags: str = SOUND_CPU_FLAGS) -> Iterator[None]:
    """Have libav choose only among these instructions for what is opened within the block; not for threads."""
    mask = ctypes.c_uint(0)
    if _LIBAVUTIL.av_parse_cpu_caps(ctypes.byref(mask), flags.encode()) < 0:
        raise ValueError(f"expected flags that libav knows, found {flags!r}")
    _LIBAVUTIL.av_force_cpu_flags(ctypes.c_int(mask.value))
    try:
        yield
    finally:
        _LIBAVUTIL.av_force_cpu_flags(_AS_FOUND)
