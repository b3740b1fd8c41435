"""What a program inside a machine asks of the machine itself: shut down, run this later. Decided without doing it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

SHIMS = (
    "shutdown",
    "poweroff",
    "halt",
    "reboot",
    "init",
    "telinit",
    "systemctl",
    "systemd-run",
    "mount",
    "umount",
    "dnf",
    "yum",
    "useradd",
    "userdel",
    "groupadd",
    "modprobe",
    "sudo",
)
"""Programs that stand in for the real ones: each records how it was called."""
_DEFAULT_DELAY = 60.0
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})")
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")
_SECONDS = {
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    "ms": 0.001,
}
_OFF_VERBS = ("poweroff", "halt")
_ABSENT = {"is-enabled": 1, "is-active": 3, "is-failed": 1, "status": 4}
"""What systemctl answers of a unit that is not there."""
_RUN_VALUES = (
    *("--on-active", "--unit", "-u", "--description", "--property", "-p", "--slice", "--uid", "--gid"),
    *("--setenv", "-E", "--on-boot", "--on-calendar", "--timer-property", "--working-directory"),
)
_SUDO_VALUES = ("-u", "--user", "-g", "--group", "-h", "-p", "-C", "-D", "-R", "-T")


@dataclass(frozen=True)
class Answer:
    """What is to be done about a call."""

    status: int = 0
    """The exit status of the program that was called."""
    shut_down_in: float | None = None
    """Seconds until the machine goes down."""
    cancel: bool = False
    """Forget the shutdown that is due."""
    command: tuple[str, ...] = ()
    """What is to be run."""
    in_seconds: float | None = None
    """When; None where the caller itself becomes it."""
    message: str = ""
    """What the program says on stderr."""


def answer(argv: Sequence[str], now: datetime) -> Answer:
    """Decide what a call does.

    Args:
        argv: the name of the program, without its folder, and its arguments.
        now: by which ``shutdown 12:30`` is counted.
    """
    name, arguments = argv[0], list(argv[1:])
    if name in ("shutdown", "poweroff", "halt"):
        return _shutdown(name, arguments, now)
    if name in ("init", "telinit"):
        return Answer(shut_down_in=0.0) if arguments[:1] == ["0"] else Answer()
    if name == "systemctl":
        return _systemctl(arguments)
    if name == "systemd-run":
        return _systemd_run(arguments)
    if name == "sudo":
        return Answer(command=tuple(_behind_options(arguments, _SUDO_VALUES)), in_seconds=None)
    return Answer()


def _shutdown(name: str, arguments: list[str], now: datetime) -> Answer:
    if name != "shutdown":
        return Answer() if {"-w", "--wtmp-only"} & set(arguments) else Answer(shut_down_in=0.0)
    flags = [argument for argument in arguments if argument.startswith("-")]
    words = [argument for argument in arguments if not argument.startswith("-")]
    if {"-c", "--cancel"} & set(flags):
        return Answer(cancel=True)
    if {"-k", "-r", "--reboot"} & set(flags):
        return Answer()  # a warning only; or a restart, after which nothing of a script would be left to run
    try:
        return Answer(shut_down_in=delay_of(words[0], now) if words else _DEFAULT_DELAY)
    except ValueError as error:
        return Answer(status=1, message=f"Failed to parse time specification: {error}")


def delay_of(text: str, now: datetime) -> float:
    """Read a time as ``shutdown`` takes it: ``now``, ``+5`` (minutes) or ``12:30``; give seconds from now.

    Raises:
        ValueError: it is none.
    """
    if text == "now":
        return 0.0
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        due = now.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
        return (due - now).total_seconds() if due > now else (due + timedelta(days=1) - now).total_seconds()
    if not text.removeprefix("+").isdigit():
        raise ValueError(text)
    return 60.0 * int(text.removeprefix("+"))


def span_of(text: str) -> float:
    """Read a span of time as systemd takes it, e.g. ``90``, ``5min`` or ``1h 30min``; give seconds.

    Raises:
        ValueError: it is none.
    """
    parts = _SPAN.findall(text)
    if not parts or _SPAN.sub("", text).strip():
        raise ValueError(f"expected a time span such as 90, 5min or 1h 30min, found {text!r}")
    try:
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    except KeyError as error:
        raise ValueError(f"unknown unit of time {error} in {text!r}") from error


def _systemctl(arguments: list[str]) -> Answer:
    words = [argument for argument in arguments if not argument.startswith("-")]
    verb = words[0] if words else ""
    if verb in _OFF_VERBS:
        return Answer(shut_down_in=0.0)
    return Answer(status=_ABSENT.get(verb, 0))


def _systemd_run(arguments: list[str]) -> Answer:
    after = 0.0
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--on-active":
            try:
                after = span_of(value if equals else arguments[index + 1])
            except (ValueError, IndexError) as error:
                return Answer(status=1, message=f"Failed to parse timer value: {error}")
        elif not argument.startswith("-") and arguments[index - 1 : index] not in [[known] for known in _RUN_VALUES]:
            break
    return Answer(command=tuple(_behind_options(arguments, _RUN_VALUES)), in_seconds=after)


def _behind_options(arguments: list[str], with_value: Sequence[str]) -> list[str]:
    """Drop a program's own options, up to the command that it is to run."""
    left = list(arguments)
    while left and left[0].startswith("-"):
        option = left.pop(0)
        if option == "--":
            break
        if option in with_value and left:
            left.pop(0)
    return left
