"""What nodes run when they boot, by the real bash; programs that would change a machine only note their calls."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import shardmill

SCRIPTS = Path(shardmill.__file__).parent / "node_scripts"
STAND_INS = ("shutdown", "systemd-run", "systemctl", "mount", "mkdir", "chmod")
FAILING = 'case " $FAILING " in *" {name} "*) exit 1 ;; esac\n'


class Node:
    """A folder of stand-ins in front of PATH."""

    def __init__(self, folder: Path) -> None:
        self.calls_file = folder / "calls"
        self.programs = folder / "bin"
        self.programs.mkdir()
        for name in STAND_INS:
            self.add(name, f'echo "{name} $*" >> "$CALLS"\n' + FAILING.format(name=name))
        self.add("sudo", 'echo "sudo $1" >> "$CALLS"\nshift\nexec "$@"\n')
        self.be_user(0)

    def add(self, name: str, content: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/bash\n{content}")
        path.chmod(0o755)

    def be_user(self, number: int) -> None:
        self.add("id", f"echo {number}\n")

    def run(self, script: str, *arguments: str, failing: str = "") -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{self.programs}:{os.defpath}", "CALLS": str(self.calls_file), "FAILING": failing}
        return subprocess.run(
            ["/bin/bash", str(SCRIPTS / script), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    @property
    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []

    @property
    def halt(self) -> str:
        return f"{self.programs / 'shutdown'} -h now"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def after(**time_from_now: float) -> str:
    return (datetime.now(UTC) + timedelta(**time_from_now)).isoformat(timespec="seconds")


def timer(call: str) -> tuple[int, str]:
    """Give the seconds and the command of a call of systemd-run."""
    words = call.split()
    assert words[:2] == ["systemd-run", "--unit=shardmill-deadline"]
    assert "--timer-property=AccuracySec=1s" in words, "by default a timer may be a minute late"
    return int(words[2].removeprefix("--on-active=")), " ".join(words[4:])


@pytest.mark.parametrize("zone", ["+00:00", "epoch", "+05:30"])
def test_a_node_sets_a_timer_for_what_is_left_until_its_deadline(node, zone):
    end = datetime.now(UTC) + timedelta(hours=6)
    told = {
        "+00:00": end.isoformat(timespec="seconds"),
        "epoch": str(int(end.timestamp())),
        "+05:30": f"{end + timedelta(hours=5, minutes=30):%Y-%m-%dT%H:%M:%S}+05:30",
    }[zone]
    done = node.run("deadline.sh", told)
    assert done.returncode == 0, done.stderr
    (call,) = node.calls
    seconds, command = timer(call)
    assert 6 * 3600 - 5 <= seconds <= 6 * 3600
    assert command == node.halt


def test_a_node_that_joins_too_late_shuts_down_at_once_and_is_no_node(node):
    done = node.run("deadline.sh", after(seconds=-1))
    assert node.calls == ["shutdown -h now"]
    assert done.returncode == 1
    assert "is over: this node shuts down now" in done.stderr


def test_a_node_where_the_timer_is_set_keeps_it(node):
    done = node.run("deadline.sh", after(hours=1), failing="systemd-run")
    assert done.returncode == 0
    assert node.calls[1] == "systemctl is-active --quiet shardmill-deadline.timer"
    assert len(node.calls) == 2


def test_a_node_without_a_timer_of_systemd_waits_by_a_process_that_outlives_the_script(node):
    done = node.run("deadline.sh", after(seconds=4), failing="systemd-run systemctl")
    assert done.returncode == 0, done.stderr
    assert "shutdown -h now" not in node.calls
    give_up = time.monotonic() + 10
    while "shutdown -h now" not in node.calls:
        assert time.monotonic() < give_up, node.calls
        time.sleep(0.1)


def test_a_node_on_which_nothing_can_wait_fails_its_boot(node):
    node.add("nohup", "exit 1\n")
    done = node.run("deadline.sh", after(hours=1), failing="systemd-run systemctl")
    assert done.returncode == 1
    assert "no timer could be set" in done.stderr


def test_a_node_becomes_root_where_it_is_not(node):
    node.be_user(1000)
    assert node.run("deadline.sh", after(hours=1)).returncode == 0
    assert [call.split()[0] for call in node.calls] == ["sudo", "systemd-run"]
    assert node.calls[0] == "sudo -n"


@pytest.mark.parametrize("arguments", [(), ("tomorrow-ish",), ("1", "2"), ("",)], ids=str)
def test_a_deadline_that_is_none_fails_the_boot(node, arguments):
    assert node.run("deadline.sh", *arguments).returncode != 0
    assert node.calls == []


def test_gpu_nodes_mount_the_device_controller_where_yarn_looks_for_it(node):
    from shardmill.core.emr_configurations import GPU_CGROUPS

    done = node.run("gpu_cgroups.sh")
    assert done.returncode == 0, done.stderr
    assert node.calls == [
        f"mkdir -p {GPU_CGROUPS}/devices",
        f"mount -t cgroup -o devices cgroupv1-devices {GPU_CGROUPS}/devices",
        f"chmod -R a+rwx {GPU_CGROUPS}",
    ]


def test_a_gpu_node_that_cannot_mount_fails_its_boot(node):
    assert node.run("gpu_cgroups.sh", failing="mount").returncode != 0


@pytest.mark.parametrize("script", ["deadline.sh", "gpu_cgroups.sh"])
def test_shellcheck_finds_nothing(script):
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([shellcheck, str(SCRIPTS / script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
