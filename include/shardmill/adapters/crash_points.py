"""Points where a test may kill this process, as by ``kill -9``.

``SHARDMILL_CRASH_AT=name:n`` ends it at the n-th time it comes to a point. ``SHARDMILL_CRASH_FOLDER=folder`` arms a
point by a file ``<of>.<name>`` in the folder, once: the file is gone when the process is. Holds it ``worker``, the
process that started this one goes with it.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

VARIABLE = "SHARDMILL_CRASH_AT"
FOLDER = "SHARDMILL_CRASH_FOLDER"
WORKER = "worker"
POINTS = (
    "part_built",
    "part_put",
    "receipt_put",
    "receipt_found",
    "manifest_built",
    "manifest_put",
)
"""In the order in which a writer passes them; the last one is behind the commit."""
CLUSTER_POINTS = (
    "cluster_wanted",
    "cluster_asked",
    "cluster_recorded",
    "cluster_up",
    "step_wanted",
    "step_asked",
    "step_recorded",
    "step_ended",
    "end_wanted",
    "end_asked",
    "end_seen",
)
"""In the order in which the tasks of a cluster pass them: each is behind what its name tells."""
_passed: Counter[str] = Counter()


def pass_point(name: str, of: str = "") -> None:
    """Come to a point; where it is the one that was asked for, the process ends.

    Args:
        of: whose point it is, e.g. a run's name.
    """
    _passed[name] += 1
    if os.environ.get(VARIABLE) == f"{name}:{_passed[name]}":
        os.kill(os.getpid(), signal.SIGKILL)
    if folder := os.environ.get(FOLDER):
        _crash_if_armed(Path(folder) / f"{of}.{name}")


def _crash_if_armed(armed: Path) -> None:
    try:
        what = armed.read_text()
        armed.unlink()
    except FileNotFoundError:
        return
    if what == WORKER:
        os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
