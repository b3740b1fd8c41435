"""Run the tests in two lanes at once, each a folder of tests after the other, the longest first.

    python scripts/run_tests.py [--one-lane] [pytest's arguments]

A folder's output comes when it is through. The exit status is that of the folder that went worst.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
LONGEST_FIRST = ("e2e", "jobs", "localcloud", "adapters", "faults", "dags")
"""Folders that take minutes; what is not named here is run as one at the end."""
LANES = 2
ONE_LANE = "--one-lane"
NOTHING_CHOSEN = 5
"""What pytest exits with where no test was selected."""


def shares(folder: Path) -> list[list[Path]]:
    """Share the tests of a folder out, in the order in which they are begun; each is in one share."""
    held = {path.name: path for path in sorted(folder.iterdir()) if _holds_tests(path)}
    long = [[held.pop(name)] for name in LONGEST_FIRST if name in held]
    return [*long, list(held.values())] if held else long


def _holds_tests(path: Path) -> bool:
    return any(path.rglob("test_*.py")) if path.is_dir() else path.match("test_*.py")


class Lanes:
    """Runs share after share, in several lanes."""

    def __init__(self, left: Iterable[Sequence[Path]], arguments: Sequence[str]) -> None:
        self._left, self._arguments = [list(paths) for paths in left], list(arguments)
        self._lock = threading.Lock()
        self.statuses: list[int] = []

    def run(self, count: int) -> None:
        """Run all, whatever becomes of one; after an interrupt only what is running."""
        lanes = [threading.Thread(target=self._run_lane) for _ in range(count)]
        for lane in lanes:
            lane.start()
        try:
            for lane in lanes:
                lane.join()
        finally:
            with self._lock:
                self._left.clear()
            for lane in lanes:
                lane.join()  # pytest was interrupted too, and cleans up

    def _run_lane(self) -> None:
        while paths := self._next():
            names, started = " ".join(path.name for path in paths), time.monotonic()
            with tempfile.TemporaryFile("w+") as output:
                command = [sys.executable, "-m", "pytest", *self._arguments, *map(str, paths)]
                status = subprocess.call(command, stdout=output, stderr=subprocess.STDOUT)
                output.seek(0)
                with self._lock:
                    self.statuses.append(status)
                    print(output.read(), f"… {names}: {time.monotonic() - started:.0f} s", sep="\n", flush=True)

    def _next(self) -> list[Path]:
        with self._lock:
            if not self._left:
                return []
            paths = self._left.pop(0)
            print(f"tests of {' '.join(path.name for path in paths)} …", flush=True)
            return paths


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Run all tests below a folder; give the exit status of the share that went worst."""
    if ONE_LANE in arguments:
        left = [argument for argument in arguments if argument != ONE_LANE]
        return subprocess.call([sys.executable, "-m", "pytest", *left, str(folder)])
    lanes = Lanes(shares(folder), arguments)
    lanes.run(LANES)
    return worst(lanes.statuses)


def worst(statuses: Iterable[int]) -> int:
    """Give the worst exit status: a share from which no test was selected is no failure, but all of them are."""
    ran = [status for status in statuses if status != NOTHING_CHOSEN]
    return max(ran, key=abs) if ran else NOTHING_CHOSEN


if __name__ == "__main__":
    sys.exit(run(TESTS, sys.argv[1:]))
