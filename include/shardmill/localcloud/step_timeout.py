"""Read the ``timeout`` that a step's command may stand under, as coreutils has it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from shardmill.localcloud.submit_arguments import RefusedStepError

_DURATION = re.compile(r"\d+(\.\d+)?[smhd]?")
_SIGNAL = re.compile(r"[A-Z0-9+]{1,12}")
_WITH_VALUE = {
    "-k": ("--kill-after", _DURATION),
    "--kill-after": ("--kill-after", _DURATION),
    "-s": ("--signal", _SIGNAL),
    "--signal": ("--signal", _SIGNAL),
}
_FLAGS = ("--preserve-status", "-v", "--verbose")


def split_timeout(arguments: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split the arguments of ``command-runner.jar`` behind ``timeout``, its options and its duration.

    Returns:
        The ``timeout`` with what belongs to it, empty where there is none; and the command.

    Raises:
        RefusedStepError: ``timeout`` would refuse it, or it is not in coreutils of the nodes.
    """
    if not arguments or arguments[0] != "timeout":
        return (), tuple(arguments)
    taken, rest = ["timeout"], list(arguments[1:])
    while rest and rest[0].startswith("-"):
        option, equals, value = rest.pop(0).partition("=")
        if option in _FLAGS and not equals:
            taken.append(option)
            continue
        if option not in _WITH_VALUE:
            raise RefusedStepError(f"timeout does not know the option {option!r}, or it would change what is ended")
        if not equals:
            value = rest.pop(0) if rest else ""
        name, pattern = _WITH_VALUE[option]
        if not pattern.fullmatch(value):
            raise RefusedStepError(f"timeout: {option}: found {value!r}, expected such as 60s or TERM")
        taken.append(f"{name}={value}")
    if not rest or not _DURATION.fullmatch(rest[0]):
        raise RefusedStepError(f"timeout: expected a duration such as 3600, found {rest[0] if rest else 'nothing'!r}")
    taken.append(rest.pop(0))
    if not rest:
        raise RefusedStepError("timeout: expected a command behind the duration, found nothing")
    return tuple(taken), tuple(rest)
