from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardmill.adapters.process import process_tree, read_process, start_child, terminate_tree

FAMILY = """
import os, signal, subprocess, sys, time
{prelude}
subprocess.Popen([sys.executable, "-c", "import os, time; os.setpgid(0, 0); time.sleep(600)"])
open(sys.argv[1], "w").write("ready")
time.sleep(600)
"""
PARENT = """
import sys, time
from shardmill.adapters.process import start_child
child = start_child([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def wait_until(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def family(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = start_child([sys.executable, "-c", FAMILY.format(prelude=""), str(tmp_path / "ready")])
    wait_until(tmp_path / "ready")
    yield process
    terminate_tree(process.pid, 0)
    process.wait()


def test_a_child_dies_with_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert read_process(child) is not None
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while read_process(child) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert read_process(child) is None


def test_a_tree_ends_with_all_of_its_descendants(family: subprocess.Popen[bytes]) -> None:
    pids = {info.pid for info in process_tree(family.pid)}
    assert len(pids) == 2
    assert terminate_tree(family.pid, grace_seconds=5)
    assert family.wait() == -signal.SIGTERM
    assert all(read_process(pid) is None for pid in pids)


def test_what_its_dead_leader_left_behind_is_found_by_the_session(family: subprocess.Popen[bytes]) -> None:
    pids = {info.pid for info in process_tree(family.pid)}
    os.kill(family.pid, signal.SIGKILL)
    family.wait()
    assert any(read_process(pid) is not None for pid in pids)
    assert terminate_tree(family.pid, grace_seconds=5)
    assert all(read_process(pid) is None for pid in pids)


def test_a_process_that_ignores_sigterm_is_killed_behind_the_grace(tmp_path: Path) -> None:
    stubborn = FAMILY.format(prelude="signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    process = start_child([sys.executable, "-c", stubborn, str(tmp_path / "ready")])
    wait_until(tmp_path / "ready")
    before = time.monotonic()
    assert terminate_tree(process.pid, grace_seconds=0.5)
    assert 0.4 < time.monotonic() - before < 5
    assert process.wait() == -signal.SIGKILL


def test_a_process_that_is_gone_is_no_error() -> None:
    process = start_child([sys.executable, "-c", "pass"])
    process.wait()
    assert terminate_tree(process.pid, grace_seconds=1)
