"""Run the tests in two lanes at once: what waits for clocks and for other processes beside what computes.

    python scripts/run_tests.py [--one-lane] [pytest's arguments]

The output of the second lane comes behind that of the first one. The exit status is that of the lane that went worse.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
WAITING = ("dags", "e2e", "kills", "laptop", "localcloud", "node_scripts")
"""Folders whose tests start Airflow, Spark or the local AWS and wait for them. All else is in the other lane."""
ONE_LANE = "--one-lane"
NOTHING_CHOSEN = 5
"""What pytest exits with where no test was selected."""


def lanes(folder: Path) -> tuple[list[Path], list[Path]]:
    """Share the tests of a folder out: what waits, and what computes; each file and folder with tests is in one."""
    held = [path for path in sorted(folder.iterdir()) if _holds_tests(path)]
    return [path for path in held if path.name in WAITING], [path for path in held if path.name not in WAITING]


def _holds_tests(path: Path) -> bool:
    return any(path.rglob("test_*.py")) if path.is_dir() else path.match("test_*.py")


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Run both lanes to their end, whatever becomes of the other one."""
    waiting, computing = lanes(folder)
    if ONE_LANE in arguments:
        left = [argument for argument in arguments if argument != ONE_LANE]
        return subprocess.call(_command([*waiting, *computing], left))
    with tempfile.TemporaryFile("w+") as output:
        beside = subprocess.Popen(_command(computing, arguments), stdout=output, stderr=subprocess.STDOUT)
        try:
            statuses = [subprocess.call(_command(waiting, arguments))]
            print("… and beside them:", flush=True)
            statuses.append(beside.wait())
        finally:
            beside.wait()  # it was interrupted too, and cleans up
            output.seek(0)
            print(output.read(), flush=True)
    return worst(statuses)


def worst(statuses: Iterable[int]) -> int:
    """Give the exit status of both: a lane from which no test was selected is no failure, but two of them are."""
    found = list(statuses)
    ran = [status for status in found if status != NOTHING_CHOSEN]
    return max(ran, key=abs) if ran else NOTHING_CHOSEN


def _command(paths: Sequence[Path], arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "pytest", *arguments, *map(str, paths)]


if __name__ == "__main__":
    sys.exit(run(TESTS, sys.argv[1:]))
