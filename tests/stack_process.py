"""The whole stack as `make up` starts it, in a process and a folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from shardmill.adapters.process import process_tree
from shardmill.laptop.stack import StackAddress, running_stack

PATIENCE_SECONDS = 360
LAST_LINE = "end it by Ctrl-C"
"""Of what `up` says once all is there."""


@contextmanager
def stack_process(
    folder: Path, *arguments: str, environment: Mapping[str, str] = {}, meanwhile: Callable[[], None] = lambda: None
) -> Iterator[tuple[StackAddress, Path]]:
    """Run a stack for the length of a with block; give its address and its state folder. Nothing may be left of it.

    Args:
        arguments: of the command `up`, beside the state folder.
        environment: added to the caller's.
        meanwhile: is called while the stack comes up.
    """
    state, told = folder / "state", folder / "up.log"
    state.mkdir()
    argv = [sys.executable, "-m", "shardmill.laptop.up", "up", "--state", str(state), *arguments]
    with told.open("wb") as log:
        process = subprocess.Popen(
            argv, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=os.environ | dict(environment)
        )
    try:
        meanwhile()
        yield _wait_for(process, state, told), state
    finally:
        family = process_tree(process.pid)
        os.kill(process.pid, signal.SIGINT)
        process.wait(PATIENCE_SECONDS)
    left = [info for info in family if _is_alive(info.pid, info.started)]
    assert left == [], f"left behind: {left}"


def _wait_for(process: subprocess.Popen[bytes], state: Path, log: Path) -> StackAddress:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up:
        assert process.poll() is None, log.read_text()
        if LAST_LINE in log.read_text() and (address := running_stack(state)):
            return address
        time.sleep(0.5)
    raise AssertionError(f"the stack is not up after {PATIENCE_SECONDS} s: {log.read_text()}")


def _is_alive(pid: int, started: int) -> bool:
    return any(info.pid == pid and info.started == started for info in process_tree(pid))
