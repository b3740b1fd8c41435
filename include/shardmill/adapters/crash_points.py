"""Points where a test may kill this process: ``SHARDMILL_CRASH_AT=name:n`` ends it at the n-th time it comes there."""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE = "SHARDMILL_CRASH_AT"
POINTS = (
    "part_built",
    "part_put",
    "receipt_put",
    "receipt_found",
    "manifest_built",
    "manifest_put",
)
"""In the order in which a writer passes them; the last one is behind the commit."""
_passed: Counter[str] = Counter()


def pass_point(name: str) -> None:
    """Come to a point; where it is the one that was asked for, the process ends as by ``kill -9``."""
    _passed[name] += 1
    if os.environ.get(VARIABLE) == f"{name}:{_passed[name]}":
        os.kill(os.getpid(), signal.SIGKILL)
