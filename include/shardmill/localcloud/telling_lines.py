"""Find the lines of a failed job's output that say why it failed."""

from __future__ import annotations

import re

MAX_CHARACTERS = 2000
_EXCEPTION = re.compile(
    r"(?:Caused by: )?(?:[A-Za-z_][\w$]*\.)*[A-Z][\w$]*(?:Error|Exception|Interrupt|Exit)\b(?::.*|$)"
)
_WRAPPERS = ("Py4JJavaError: An error occurred", "PythonException: Traceback", "Caused by: ")
_NOISE = re.compile(
    r"\d\d/\d\d/\d\d \d\d:\d\d:\d\d (?:INFO|WARN|DEBUG)"  # Spark's log
    r"|\s*at [\w.$<>/]+\(|\t?\.\.\. \d+ more|Driver stacktrace:|\s*[~^]+$"  # Java's stack, Python's pointers
)
_TAIL_LINES = 12


def telling_lines(stdout: str, stderr: str) -> str:
    """Choose the lines for a step's FailureDetails.

    In client mode Spark sends what Python writes to stderr, its traceback too, into the step's stdout; Spark's own
    complaints stay in stderr.

    Returns:
        The exceptions' own lines first, the last one at the top, then the end of both outputs; never empty.
    """
    lines = [*_telling(stdout), *_telling(stderr)]
    exceptions = [line for line in lines if _EXCEPTION.match(line)]
    first = list(dict.fromkeys(reversed(exceptions)))
    # What wraps a Python exception on its way through the JVM says less than the exception.
    first.sort(key=lambda line: any(wrapper in line for wrapper in _WRAPPERS))
    rest = [line for text in (stdout, stderr) for line in _telling(text)[-_TAIL_LINES:] if line not in exceptions]
    text = "\n".join([*first[:4], *dict.fromkeys(rest)])
    return text[:MAX_CHARACTERS] if text else "The job wrote nothing."


def _telling(text: str) -> list[str]:
    return [line.rstrip()[:400] for line in text.splitlines() if line.strip() and not _NOISE.match(line)]
