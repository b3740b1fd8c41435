"""What nodes run when they boot, in the namespaces in which the local EMR runs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import shardmill
from shardmill.core.emr_configurations import GPU_CGROUPS
from shardmill.localcloud.machine import Machine, MachineError

SCRIPTS = Path(shardmill.__file__).parent / "node_scripts"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    try:
        made = Machine(tmp_path / "machine", environment={})
    except MachineError as error:
        pytest.skip(str(error))
    yield made
    made.stop()


def wait_for(true: Callable[[], bool], seconds: float = 30) -> None:
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def run(machine: Machine, script: str, *arguments: str) -> int | None:
    out, err = machine.folder.parent / "out", machine.folder.parent / "err"
    machine.run(SCRIPTS / script, arguments, stdout=out, stderr=err)
    wait_for(lambda: machine.poll() is not None)
    return machine.poll()


def test_a_machine_is_shut_down_at_its_deadline_and_not_before(machine):
    end = datetime.now(UTC) + timedelta(seconds=6)
    assert run(machine, "deadline.sh", end.isoformat(timespec="seconds")) == 0
    assert run(machine, "gpu_cgroups.sh") == 0
    assert not machine.shut_down()
    wait_for(machine.shut_down)
    assert abs((datetime.now(UTC) - end).total_seconds()) < 3
    assert [call[0] for call in machine.calls() if call[0] == "shutdown"] == ["shutdown"]


def test_a_machine_that_boots_too_late_is_shut_down_at_once(machine):
    machine.run(
        SCRIPTS / "deadline.sh",
        ["2026-01-01T00:00:00+00:00"],
        stdout=machine.folder.parent / "out",
        stderr=machine.folder.parent / "err",
    )
    wait_for(machine.shut_down)


def test_the_cgroups_of_gpu_nodes_are_mounted_in_name_only(machine):
    assert run(machine, "gpu_cgroups.sh") == 0
    assert ["mount", "-t", "cgroup", "-o", "devices", "cgroupv1-devices", f"{GPU_CGROUPS}/devices"] in machine.calls()
    assert not Path(GPU_CGROUPS).exists(), "the host's root is not touched"
