"""Run split as a user does: by the command line, on a lake of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bench_split_runs import Measured, run

_PROGRAM = (sys.executable, "-m", "shardmill.cli")


def split(folder: Path, lake: Path, asked: Mapping[str, object]) -> Measured:
    """Plan and ingest a run, then measure its split with its start-up, and nothing else.

    Args:
        folder: below it lies everything that the run reads and writes.
        asked: fields that differ from the form's defaults, without the lake.
    """
    path = folder / "asked.json"
    path.write_text(json.dumps({"dataset": "bench", **asked, "lake": f"file://{lake}"}))
    roots = f"file://{folder}"
    environment = {**os.environ, "SHARDMILL_SOURCE_ROOTS": roots, "SHARDMILL_LAKE_ROOTS": roots}
    planning = [*_PROGRAM, "plan", str(path), "--run", "bench"]
    planned = subprocess.run(planning, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    spec = planned.stdout.splitlines()[-1]
    subprocess.run([*_PROGRAM, "ingest", spec], env=environment, check=True, stdout=subprocess.DEVNULL)
    return run([*_PROGRAM, "split", spec], lake / "_scratch", environment)
