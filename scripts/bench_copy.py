"""Time the copy of a shard from disk to disk against ``cp --reflink=never`` and ``sha256sum`` of the copy.

Run: ``.local/airflow/bin/python scripts/bench_copy.py [GIB] [ROUNDS]``. Each round runs both, one after the other;
the files are read once before, so that both find them in memory. Prints each round, the medians, and our peak memory.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_OURS = """
import json, resource, sys, time
from shardmill.adapters.store import Store
from shardmill.jobs.ingest import ingest_shard
from shardmill.specs.manifest import SourceObject
source, lake = Store(f"file://{sys.argv[1]}"), Store(f"file://{sys.argv[2]}", create=True)
found = source.head("s-000000.tar")
version = SourceObject(uri=source.uri_of(found.key), size=found.size, version=found.version)
started = time.monotonic()
ingest_shard(lake, "bench", (0, version), "copy")
seconds = time.monotonic() - started
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000]))
"""


def _time_ours(folder: Path, number: int) -> tuple[float, float]:
    argv = [sys.executable, "-c", _OURS, str(folder / "source"), str(folder / f"lake-{number}")]
    seconds, megabytes = json.loads(subprocess.run(argv, check=True, capture_output=True).stdout)
    subprocess.run(["rm", "-rf", str(folder / f"lake-{number}")], check=True)
    return seconds, megabytes


def _time_theirs(folder: Path) -> float:
    started = time.monotonic()
    copy = folder / "copy.tar"
    subprocess.run(["cp", "--reflink=never", str(folder / "source" / "s-000000.tar"), str(copy)], check=True)
    subprocess.run(["sha256sum", str(copy)], check=True, capture_output=True)
    seconds = time.monotonic() - started
    copy.unlink()
    return seconds


def main(gib: float, rounds: int) -> None:
    """Run the rounds and print them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "source").mkdir()
        shard = folder / "source" / "s-000000.tar"
        subprocess.run(
            ["dd", "if=/dev/urandom", f"of={shard}", "bs=1M", f"count={int(gib * 1024)}", "status=none"], check=True
        )
        ours, theirs, memory = [], [], 0.0
        for number in range(rounds):
            theirs.append(_time_theirs(folder))
            seconds, megabytes = _time_ours(folder, number)
            ours.append(seconds)
            memory = max(memory, megabytes)
            print(f"round {number}: cp + sha256sum {theirs[-1]:.2f} s, copy {ours[-1]:.2f} s", flush=True)
    ratio = statistics.median(theirs) / statistics.median(ours)
    print(f"medians {statistics.median(theirs):.2f} s and {statistics.median(ours):.2f} s: {ratio:.2f} times the")
    print(f"throughput, peak memory of the process {memory:.0f} MB", flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0, int(sys.argv[2]) if len(sys.argv) > 2 else 5)
