"""Which instructions of the CPU may touch sound: the last bits of floating point differ between them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av.utils

SOUND_CPU_FLAGS = "avx"
"""As ffmpeg's ``-cpuflags``. Measured: the PCM of AAC, MP3, Opus, Vorbis and AC-3, resampled sound and encoded AAC
all differ with them; pictures do not, for decoders are exact, the scaler is told to be, and x264 is from AVX on."""
# The module is linked against libavutil, wherever that lies: its symbols are found through it.
_LIBAVUTIL = ctypes.CDLL(av.utils.__file__)
_AS_FOUND = -1


class UnfitCpuError(RuntimeError):
    """This machine's CPU cannot give the clips that others give."""


def require_avx(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Check that clips made here are those that any other machine makes. Linux; not inside a sandbox without /proc.

    Raises:
        UnfitCpuError: where the CPU does not know AVX.
    """
    for line in cpuinfo.read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            if "avx" in value.split():
                return
            break
    raise UnfitCpuError("expected a CPU that knows AVX, for clips are to be the same on every machine; found none")


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
