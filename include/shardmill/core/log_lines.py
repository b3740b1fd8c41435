"""Choose the lines of a step's and its executors' logs that people are to see."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

MOST_LINES = 200
MOST_BYTES = 64 * 1024
MOST_CHARACTERS = 500
"""Of a line; what follows is cut off."""
_NOISE = re.compile(
    r"\d\d/\d\d/\d\d \d\d:\d\d:\d\d (?:INFO|DEBUG)|\s*at [\w.$<>/]+\(|\t?\.\.\. \d+ more|Driver stacktrace:|\s*[~^]+$"
)
_FATAL = re.compile(r"Traceback \(most recent|\bERROR\b|\bFATAL\b|[A-Z]\w*(?:Error|Exception)\b|\b[Kk]illed\b|SIGTERM")
_APPLICATION = re.compile(r"\b(application_\d+_\d+|app-\d{14}-\d{4})\b")
_LOST = re.compile(r"(?:ExecutorLostFailure \(executor |[Ll]ost executor |executor[ _]|\bID )(\d+)\b")


class NewLines:
    """Hand on a log that grows, a bounded number of lines at a time: the newest, and how many were left out."""

    def __init__(self, most_lines: int = MOST_LINES, most_bytes: int = MOST_BYTES) -> None:
        self._most_lines, self._most_bytes = most_lines, most_bytes
        self._kept: deque[str] = deque()
        self._bytes = self._dropped = 0
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        """Take what follows. A line counts once its end is there."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        # What has no end for so long is cut where it is, or memory would have none either.
        if len(self._rest) > self._most_bytes:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._keep(line.rstrip(b"\r").decode(errors="replace")[:MOST_CHARACTERS])

    def take(self, *, last: bool = False) -> list[str]:
        """Give the lines that came since the last time; with ``last`` also one without an end."""
        if last and self._rest:
            self.feed(b"\n")
        lines = [f"… {self._dropped} lines left out", *self._kept] if self._dropped else list(self._kept)
        self._kept.clear()
        self._bytes = self._dropped = 0
        return lines

    def _keep(self, line: str) -> None:
        self._kept.append(line)
        self._bytes += len(line.encode())
        while len(self._kept) > self._most_lines or self._bytes > self._most_bytes:
            self._bytes -= len(self._kept.popleft().encode())
            self._dropped += 1


def last_lines(text: str, count: int) -> list[str]:
    """Give the last lines that say something: without Spark's chatter, Java's stacks, empty lines."""
    telling = [line.rstrip()[:MOST_CHARACTERS] for line in text.splitlines() if line.strip() and not _NOISE.match(line)]
    return telling[-count:] if count else []


def applications(texts: Iterable[str]) -> list[str]:
    """List the applications of Spark, on YARN or standalone, that a step's logs name, in the order of their names."""
    return sorted({name for text in texts for name in _APPLICATION.findall(text)})


def failing_first(executors: Mapping[str, str], driver: str) -> list[str]:
    """Choose the executors whose end looks like a failure, the most telling one first.

    Args:
        executors: the end of each one's stderr by its name: a number where Spark runs standalone, YARN's
            ``container_…_000002`` on EMR.
        driver: the end of the driver's output, which names executors that were lost by their number.
    """
    lost = set(_LOST.findall(driver))
    scored = sorted(((-_score(name, text, lost), name) for name, text in executors.items()), key=lambda pair: pair)
    return [name for score, name in scored if score]


def _score(name: str, text: str, lost: set[str]) -> int:
    fatal = sum(bool(_FATAL.search(line)) for line in last_lines(text, 20))
    return 0 if not fatal else min(fatal, 10) + (20 if name in lost else 0) + (10 if "Traceback" in text else 0)


def show(parts: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Write parts of logs one behind the other, each below its name; those without lines are left out."""
    return "\n".join(f"--- {name}\n" + "\n".join(lines) for name, lines in parts if lines)
