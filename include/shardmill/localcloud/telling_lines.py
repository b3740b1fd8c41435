"""Find the lines of a failed job's output that say why it failed."""

from __future__ import annotations

import re

MAX_CHARACTERS = 2000
_EXCEPTION = re.compile(
    r"^(?:Caused by: )?(?:[A-Za-z_][\w$]*\.)*[A-Z][\w$]*(?:Error|Exception|Interrupt|Exit|Warning)\b(?::|$)"
)
_NOISE = re.compile(r"^(\d\d/\d\d/\d\d \d\d:\d\d:\d\d (INFO|WARN|DEBUG)|\s*at [\w.$<>]+\(|\t?\.\.\. \d+ more)")
_TAIL_LINES = 12


def telling_lines(stdout: str, stderr: str) -> str:
    """Choose the lines for a step's FailureDetails.

    In client mode Spark sends what Python writes to stderr, its traceback too, into the step's stdout; Spark's own
    complaints stay in stderr.

    Returns:
        The exceptions' own lines first, the last one at the top, then the end of both outputs; never empty.
    """
    exceptions: list[str] = []
    for text in (stdout, stderr):
        found = [line.strip() for line in text.splitlines() if _EXCEPTION.match(line.strip())]
        for line in reversed(found):
            if line not in exceptions:
                exceptions.append(line)
    tails = [_tail(stdout), _tail(stderr)]
    parts = ["\n".join(line[:500] for line in exceptions[:4]), *tails]
    text = "\n".join(part for part in parts if part)
    return text[:MAX_CHARACTERS] if text else "The job wrote nothing."


def _tail(text: str) -> str:
    lines = [line.rstrip()[:300] for line in text.splitlines() if line.strip() and not _NOISE.match(line)]
    return "\n".join(lines[-_TAIL_LINES:])
