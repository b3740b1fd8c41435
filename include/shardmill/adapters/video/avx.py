"""Clips are the same on every machine whose CPU knows AVX, and on no other."""

from __future__ import annotations

from pathlib import Path


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
