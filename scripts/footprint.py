"""Run a command and print, as its last line on stderr, the wall time and the peak memory of all its processes.

Memory is the proportional set size (PSS): pages that processes share are counted once. Standard library only, Linux.

    python3.11 scripts/footprint.py make demo
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

INTERVAL_SECONDS = 1.0


def family(root: int) -> list[int]:
    """List a process and its descendants."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, []))
    return found


def pss_bytes(pid: int) -> int:
    """Give the proportional set size of a process; 0 where it has gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return 0


def main(argv: list[str]) -> int:
    if not argv:
        print(__doc__, file=sys.stderr)
        return 2
    started = time.monotonic()
    process = subprocess.Popen(argv)
    peak = 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(INTERVAL_SECONDS):
            peak = max(peak, sum(pss_bytes(pid) for pid in family(process.pid)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        status = process.wait()
    except KeyboardInterrupt:
        status = process.wait()
    ended.set()
    watcher.join()
    figures = {"status": status, "wall_s": round(time.monotonic() - started, 1), "peak_pss_mb": round(peak / 1e6)}
    print(json.dumps(figures), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
