"""A machine in namespaces, by each way that works here: what is in it, and that the host stays as it is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from shardmill.adapters.process import list_processes
from shardmill.adapters.sandbox import Sandbox, SandboxError
from shardmill.adapters.sandbox.find import _find
from shardmill.localcloud import machine as machine_module
from shardmill.localcloud.machine import Machine, MachineError
from shardmill.localcloud.machine_relay import PROXY_PORT


@pytest.fixture(params=["bubblewrap", "namespaces"])
def way(request: pytest.FixtureRequest) -> Sandbox:
    try:
        return _find(request.param)
    except SandboxError as error:
        pytest.skip(str(error))


class Host:
    """Makes machines and runs scripts in them."""

    def __init__(self, folder: Path, way: Sandbox) -> None:
        self.folder, self.way = folder, way
        self.machines: list[Machine] = []
        self.scripts = 0

    def machine(self, **options) -> Machine:
        options = {"environment": {}} | options
        made = Machine(self.folder / f"machine-{len(self.machines)}", way=self.way, **options)
        self.machines.append(made)
        return made

    def start(self, machine: Machine, text: str, *arguments: str) -> None:
        self.scripts += 1
        script = self.folder / f"script-{self.scripts}.sh"
        script.write_text(f"#!/bin/sh\n{text}\n")
        machine.run(script, arguments, stdout=self.folder / "stdout", stderr=self.folder / "stderr")

    def run(self, machine: Machine, text: str, *arguments: str) -> int:
        self.start(machine, text, *arguments)
        return wait_for(machine.poll, "the end of the script")

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()


def wait_for(look: Callable, what: str, seconds: float = 30.0):
    deadline = time.monotonic() + seconds
    while (found := look()) is None or found is False:
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)
    return found


@pytest.fixture
def host(tmp_path: Path, way: Sandbox) -> Iterator[Host]:
    made = Host(tmp_path, way)
    yield made
    for machine in made.machines:
        machine.stop()


def processes_with(mark: str) -> list[int]:
    found = []
    for info in list_processes():
        try:
            if mark.encode() in Path(f"/proc/{info.pid}/cmdline").read_bytes():
                found.append(info.pid)
        except OSError:
            continue
    return found


def test_a_script_runs_with_its_arguments_and_its_status_is_told(host: Host) -> None:
    machine = host.machine(environment={"COLOUR": "green"})
    assert host.run(machine, 'echo "$1|$2|$COLOUR"; echo oops >&2; exit 7', "two words", "") == 7
    assert (host.stdout, host.stderr) == ("two words||green\n", "oops\n")
    assert host.run(machine, "kill -9 $$") == 137
    assert host.run(machine, "true") == 0


def test_a_file_that_cannot_be_run_fails_like_a_script(host: Host) -> None:
    machine = host.machine()
    script = host.folder / "broken"
    script.write_text("#!/no/such/interpreter\n")
    machine.run(script, [], stdout=host.folder / "stdout", stderr=host.folder / "stderr")
    assert wait_for(machine.poll, "the end") == 126
    assert "No such file" in host.stderr


def test_the_system_is_read_only_and_the_machines_own_folders_are_not(host: Host) -> None:
    canary = host.folder / "canary"
    canary.write_text("outside")
    machine = host.machine()
    files = ("/etc/motd", "/usr/local/bin/tool", "/tmp/shardmill-x")
    changes = " && ".join(["mkdir -p /spark-rapids-cgroup/devices", *(f"echo x >{path}" for path in files)])
    # Nothing here would do harm, were it not refused.
    refused = "touch /usr/lib/shardmill-x /usr/share/shardmill-x /.host/usr/shardmill-x /.host/usr/bin/shardmill-x"
    assert host.run(machine, f"{changes}; echo $?; {refused}; ls {canary}; ls /home") == 0
    assert host.stdout == "0\n"
    assert host.stderr.count("Read-only file system") >= 4
    assert "canary" in host.stderr
    assert canary.read_text() == "outside"
    assert not [path for path in ("/usr/lib", "/usr/share", "/usr", "/usr/bin") if Path(path, "shardmill-x").exists()]
    assert not Path("/spark-rapids-cgroup").exists()
    assert (machine.folder / "root/usr/local/bin/tool").exists()


def test_what_others_may_not_read_of_the_hosts_settings_is_not_there(host: Host) -> None:
    secrets = [path for path in ("/etc/shadow", "/etc/gshadow") if Path(path).exists()]
    assert (
        host.run(host.machine(), f"for f in {' '.join(secrets)}; do test ! -e $f || exit 1; done; getent passwd root")
        == 0
    )
    assert host.stdout.startswith("root:")


def test_the_kernels_own_switches_are_out_of_reach(host: Host) -> None:
    # Help is asked of the one, and the other is set to what it is: were they not refused, nothing would happen.
    switches = [path for path in ("/proc/sysrq-trigger", "/proc/sys/vm/swappiness") if Path(path).exists()]
    values = {
        "/proc/sysrq-trigger": "h",
        "/proc/sys/vm/swappiness": Path("/proc/sys/vm/swappiness").read_text().strip(),
    }
    assert host.run(host.machine(), "; ".join(f"echo {values[path]} >{path}" for path in switches)) != 0
    assert host.stderr.count("Read-only file system") == len(switches)
    assert host.run(host.machine(), "ls /sys | wc -l; ls -d /proc/self/fd") == 0
    assert host.stdout.split() == ["0", "/proc/self/fd"]


def test_processes_of_the_host_are_out_of_reach(host: Host) -> None:
    outside = subprocess.Popen(["sleep", "60"])
    try:
        assert host.run(host.machine(), f"kill -9 {outside.pid}; kill -9 -1; ls -d /proc/[0-9]*") == 0
        assert len(host.stdout.split()) <= 3  # process 1, the script, ls
        assert outside.poll() is None
    finally:
        outside.kill()
        outside.wait()


def test_a_script_has_no_power_and_no_network_but_a_loopback(host: Host) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        script = (
            "grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status; cat /proc/net/dev | tail -n +3 | wc -l; "
            f"python3 -c \"import socket; socket.create_connection(('127.0.0.1', {listener.getsockname()[1]}), 2)\""
        )
        assert host.run(host.machine(), script) == 1
    assert host.stdout.split() == ["CapBnd:", "0" * 16, "1"] or host.stdout.split() == [
        *("CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1", "1")
    ]
    assert "Connection refused" in host.stderr


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *arguments) -> None:
        pass


def test_the_local_aws_is_reached_under_its_own_address(host: Host) -> None:
    server = HTTPServer(("127.0.0.1", 0), Hello)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        ask = "import os, urllib.request as r; print(r.urlopen(os.environ['AWS_ENDPOINT_URL']).read().decode())"
        machine = host.machine(environment={"AWS_ENDPOINT_URL": endpoint})
        assert host.run(machine, f'python3 -c "{ask}"; python3 -c "{ask}"') == 0, host.stderr
        assert host.stdout == "hello\nhello\n"
    finally:
        server.shutdown()
        server.server_close()


def test_an_endpoint_elsewhere_is_refused(host: Host) -> None:
    with pytest.raises(MachineError, match="expected a loopback address"):
        host.machine(environment={"AWS_ENDPOINT_URL": "https://s3.amazonaws.com"})


def test_only_the_named_package_indexes_can_be_reached(host: Host) -> None:
    ask = (
        "import socket, sys\n"
        f"s = socket.create_connection(('127.0.0.1', {PROXY_PORT}))\n"
        "s.sendall(sys.argv[1].encode() + b' HTTP/1.1\\r\\n\\r\\n')\n"
        "print(s.recv(100).split()[1].decode())\n"
    )
    (host.folder / "ask.py").write_text(f"#!/usr/bin/python3\n{ask}")
    machine = host.machine(package_hosts=["index.invalid"])
    for asked in ("CONNECT example.com:443", "CONNECT index.invalid:22", "GET http://index.invalid/", "CONNECT x"):
        machine.run(host.folder / "ask.py", [asked], stdout=host.folder / "stdout", stderr=host.folder / "stderr")
        assert wait_for(machine.poll, "the answer") == 0, host.stderr
        assert host.stdout == "403\n", asked
    machine.run(
        host.folder / "ask.py",
        ["CONNECT index.invalid:443"],
        stdout=host.folder / "stdout",
        stderr=host.folder / "stderr",
    )
    assert wait_for(machine.poll, "the answer", 60) == 0
    assert host.stdout == "502\n"  # it is let through, and there is no such host


def test_calls_that_would_change_a_system_are_recorded_by_whatever_path(host: Host) -> None:
    machine = host.machine()
    script = (
        "sudo -E A=b sh -c 'echo $A'; /sbin/modprobe nvidia; /usr/sbin/useradd 'a b'; mount -t cgroup x /y; "
        "systemctl is-enabled ssm && exit 1; dnf -y install x; /bin/umount /"
    )
    assert host.run(machine, script) == 0
    assert host.stdout == "b\n"
    assert machine.calls() == [
        ["sudo", "-E", "A=b", "sh", "-c", "echo $A"],
        ["modprobe", "nvidia"],
        ["useradd", "a b"],
        ["mount", "-t", "cgroup", "x", "/y"],
        ["systemctl", "is-enabled", "ssm"],
        ["dnf", "-y", "install", "x"],
        ["umount", "/"],
    ]
    assert not machine.shut_down()


def test_a_shutdown_ends_the_machines_processes_and_nothing_else(host: Host) -> None:
    mark = f"sleep {60 + os.getpid() / 1e6:.6f}"
    neighbour = subprocess.Popen(["sleep", "60"])
    up_since = Path("/proc/stat").read_text().split("btime ")[1].split()[0]
    machine, other = host.machine(), host.machine()
    try:
        host.start(other, "sleep 60")
        host.start(machine, f"{mark} & {mark} & /sbin/shutdown -h now; exit 3")
        wait_for(machine.shut_down, "the shutdown")
        wait_for(lambda: not processes_with(mark.split()[1]), "the end of the machine's processes")
        assert machine.poll() == 3
        assert neighbour.poll() is None
        assert other.poll() is None
        assert not other.shut_down()
        assert Path("/proc/stat").read_text().split("btime ")[1].split()[0] == up_since
        with pytest.raises(MachineError, match="shut down"):
            host.start(machine, "true")
    finally:
        neighbour.kill()
        neighbour.wait()


def test_a_shutdown_is_due_when_it_says_and_may_be_taken_back(host: Host) -> None:
    machine = host.machine()
    assert host.run(machine, "shutdown -h +1; shutdown -c; shutdown -h +9") == 0
    assert not machine.shut_down()
    started = time.monotonic()
    assert host.run(machine, "systemd-run --on-active=1 /usr/sbin/shutdown -h now") == 0
    assert not machine.shut_down()
    wait_for(machine.shut_down, "the shutdown")
    assert 0.9 <= time.monotonic() - started < 10


def test_what_a_script_leaves_running_goes_on_and_ends_by_stop(host: Host) -> None:
    mark = f"sleep {70 + os.getpid() / 1e6:.6f}"
    machine = host.machine()
    assert host.run(machine, f"nohup sh -c 'sleep 0.3; echo later >/tmp/later; {mark}' >/dev/null 2>&1 &") == 0
    later = machine.folder / "root/tmp/later"
    wait_for(later.exists, "the child left behind")
    assert processes_with(mark.split()[1])
    machine.stop()
    machine.stop()
    assert processes_with(mark.split()[1]) == []


def test_a_shutdown_by_a_child_left_behind_is_told(host: Host) -> None:
    machine = host.machine()
    assert host.run(machine, "nohup sh -c 'sleep 0.5; poweroff' >/dev/null 2>&1 &") == 0
    wait_for(machine.shut_down, "the shutdown")
    assert machine.poll() == 0


def test_the_machine_dies_with_whoever_made_it(host: Host, way: Sandbox) -> None:
    mark = f"sleep {80 + os.getpid() / 1e6:.6f}"
    (host.folder / "script.sh").write_text(f"#!/bin/sh\n{mark}\n")
    program = (
        "import sys, time; from pathlib import Path; from shardmill.localcloud.machine import Machine;"
        "from shardmill.adapters.sandbox.find import _find; f = Path(sys.argv[1]);"
        "m = Machine(f / 'dying', environment={}, way=_find(sys.argv[2]));"
        "m.run(f / 'script.sh', [], stdout=f / 'o', stderr=f / 'e'); time.sleep(60)"
    )
    maker = subprocess.Popen([sys.executable, "-c", program, str(host.folder), way.kind])
    try:
        wait_for(lambda: processes_with(mark.split()[1]), "the script")
    finally:
        maker.send_signal(signal.SIGKILL)
        maker.wait()
    wait_for(lambda: not processes_with(mark.split()[1]), "the end of the machine", 5)


def test_what_python_installs_stays_in_the_machine(host: Host) -> None:
    machine = host.machine()
    show = "import sys, sysconfig; print(sys.prefix, sysconfig.get_path('purelib'), '%d.%d' % sys.version_info[:2])"
    assert host.run(machine, f'python3.11 -c "{show}"; python3.11 -m pip --version') == 0, host.stderr
    prefix, packages, version = host.stdout.splitlines()[0].split()
    assert (prefix, packages, version) == (
        *("/opt/python3.11", "/opt/python3.11/lib/python3.11/site-packages"),
        "3.11",
    )
    assert host.run(machine, f"echo 'X = 1' >{packages}/mine.py; python3.11 -c 'import mine'") == 0
    assert host.run(host.machine(), "python3.11 -c 'import mine'") == 1


def test_a_second_script_waits_for_the_end_of_the_first(host: Host) -> None:
    machine = host.machine()
    host.start(machine, "sleep 60")
    with pytest.raises(MachineError, match="a script is running"):
        host.start(machine, "true")


def test_a_machine_whose_first_process_is_killed_is_broken_not_shut_down(host: Host) -> None:
    machine = host.machine()
    host.start(machine, "sleep 60")
    assert machine._process is not None
    machine._process.kill()
    with pytest.raises(MachineError, match="the machine broke"):
        wait_for(machine.poll, "the notice")
    assert not machine.shut_down()


def test_without_namespaces_no_script_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse() -> Sandbox:
        raise SandboxError("bwrap is not installed; unshare: not permitted")

    monkeypatch.setattr(machine_module, "find_sandbox", refuse)
    with pytest.raises(MachineError, match="unshare: not permitted"):
        Machine(tmp_path / "machine", environment={})
    monkeypatch.setattr(machine_module, "find_sandbox", lambda: Sandbox("none"))
    with pytest.raises(MachineError, match="in namespaces only"):
        Machine(tmp_path / "machine", environment={})
