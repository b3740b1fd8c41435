"""Writers of one shard, each a process of its own, forked from one that has imported everything."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STAGES = ("ingest", "split", "features")
TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Asked:
    """What one writer is to do, and what goes wrong in it."""

    name: str
    stages: tuple[str, ...] = STAGES
    crash_at: str = ""
    """E.g. ``part_put:2``; empty for nowhere."""
    sabotage: str = ""
    noise: bool = False
    kill_after: float = 0.0
    """Seconds after which it is killed, wherever it is; 0 for never."""
    pause_at: str = ""
    """A point, as of ``crash_at``, at which it sleeps for so long that others are done meanwhile."""
    pause_seconds: float = 2.5
    after_pause: bool = False
    """Whether it begins only once another writer sleeps at its ``pause_at``, which then does until this one ended."""
    scratch_bytes: int = 0
    """Size of the file system that its scratch folder lies in; 0 for a large one."""
    ingest: str = "copy"
    piece_bytes: int = 40_000
    sandboxed: bool = False
    """Whether videos are cut as in production; else in the writer's own process, which starts faster."""


@dataclass(frozen=True)
class Ended:
    """How a writer ended."""

    name: str
    error: str
    """Empty where it ended well; ``killed`` where it did not end by itself."""
    committed: Mapping[str, str]
    """SHA-256 by key of each manifest that it committed, or found committed just so."""
    claims: Mapping[str, str] = field(default_factory=dict)
    cut: tuple[str, ...] = ()
    """What split said of each video it cut."""
    points: Mapping[str, int] = field(default_factory=dict)
    """How often it passed each crash point."""
    trace: str = ""


class Writers:
    """Starts writers and waits for them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.zygote"], cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the zygote ended with {self._process.wait()}"
        return dict(json.loads(line))

    def run(self, place: Mapping[str, Any], *asked: Asked) -> list[Ended]:
        """Run writers at the same time; give how they ended, in the order in which they were asked.

        Args:
            place: ``settings``, ``lake``, ``source``, ``labels``, ``scratch``.
        """
        paused = self._folder / f"paused-{self._count:05d}"
        for each in asked:
            self._count += 1
            environment = {"SHARDMILL_CRASH_AT": each.crash_at} if each.crash_at else {}
            self._write(
                {
                    **place,
                    "name": each.name,
                    "stages": each.stages,
                    "environment": environment,
                    "sabotage": each.sabotage,
                    "noise": each.noise,
                    "ingest": each.ingest,
                    "kill_after": each.kill_after,
                    "pause_at": each.pause_at,
                    "pause_seconds": each.pause_seconds,
                    "after_pause": each.after_pause,
                    "paused": str(paused),
                    "others": sum(other.after_pause for other in asked),
                    "scratch_bytes": each.scratch_bytes,
                    "piece_bytes": each.piece_bytes,
                    "sandboxed": each.sandboxed,
                    "answer": str(self._folder / f"answer-{self._count:05d}.json"),
                }
            )
        self._write({"wait": True})
        ended: dict[str, Ended] = {}
        while not (found := self._read()).get("idle"):
            found.pop("status")
            ended[found["name"]] = Ended(**{**found, "cut": tuple(found.get("cut", ()))})
        return [ended[each.name] for each in asked]

    def _write(self, value: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(value) + "\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """End the zygote; it ends at the end of its input."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
