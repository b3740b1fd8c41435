"""In which type frames are multiplied."""

from __future__ import annotations

import os
from pathlib import Path

from shardmill.specs.training import Precision

_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
"""Of CPUs with instructions for products of bfloat16; others reckon it in float32, and convert it besides."""


def product_precision(asked: Precision, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Give the type, "float32" or "bfloat16", that a spec asks for; `auto` is the faster one on this CPU."""
    if asked != "auto":
        return asked
    # TensorFlow's own product of bfloat16, without oneDNN, is slow on any CPU.
    fast = os.environ.get("TF_ENABLE_ONEDNN_OPTS") not in ("0", "false") and _flags(cpuinfo) & _BFLOAT16_FLAGS
    return "bfloat16" if fast else "float32"


def _flags(cpuinfo: Path) -> set[str]:
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "flags":
                return set(value.split())
    return set()
