"""A machine for scripts that would change one: bootstrap actions and user data, in namespaces of their own.

It has a root folder of its own with the host's programs behind it read-only, its own processes, and a network in which
nothing but the local AWS (and, where asked for, package indexes) can be reached. ``shutdown``, ``systemctl``,
``mount``, ``dnf``, ``useradd`` and their like are stand-ins that record how they were called; a shutdown ends the
machine's own processes when it is due, and nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shardmill.adapters.process import start_child, terminate_tree
from shardmill.adapters.sandbox import Sandbox, SandboxError, find_sandbox
from shardmill.localcloud.machine_relay import PROXY_PORT, Relay, Serve, proxy_for, relay_to
from shardmill.localcloud.machine_root import MachineRoot, copy_script, environment_inside, make_root
from shardmill.localcloud.machine_ways import start_command

_START_SECONDS = 30.0
_STOP_SECONDS = 5.0
_MESSAGE_BYTES = 1 << 16
_ENDED_WITH_MACHINE = 143
"""Exit status of a script that the machine's end ended, as a shell tells SIGTERM."""


class MachineError(RuntimeError):
    """No machine can be had here, or it broke; the message says why."""


class NoNamespacesError(MachineError):
    """This system gives no namespaces, so no machine can be had here at all."""


class Machine:
    """Runs scripts one after the other; what they leave running goes on until the machine is stopped.

    To be used by one long-lived thread: the kernel ends the machine with the thread that made it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        environment: Mapping[str, str],
        package_hosts: Collection[str] = (),
        way: Sandbox | None = None,
    ) -> None:
        """Prepare a machine; it comes up with its first script.

        Args:
            folder: its files and its record of calls; made anew.
            environment: what its scripts find. The local AWS is reached where ``AWS_ENDPOINT_URL`` names it.
            package_hosts: package indexes that can be reached by HTTPS.
            way: how namespaces are made; found by trial where it is None.

        Raises:
            NoNamespacesError: scripts are never run without them.
        """
        self.folder = folder
        self._way = way or _find_way()
        self._environment = dict(environment)
        self._serves = _ways_out(self._environment, package_hosts)
        self._root: MachineRoot | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._relays: list[Relay] = []
        self._scripts = 0
        self._status: int | None = None
        self._shut_down = False
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def run(self, script: Path, arguments: Sequence[str], *, stdout: Path, stderr: Path) -> None:
        """Start a script and return at once; ``poll`` tells its end.

        Args:
            script: any program file; it is copied into the machine.
            arguments: its arguments.
            stdout: file outside that takes its output, made anew. Its children may write to it after its end.
            stderr: the same, for errors.

        Raises:
            MachineError: the machine is shut down, did not come up, or a script is still running.
        """
        if self._process is None:
            self._start()
        elif self._scripts and self.poll() is None:
            raise MachineError("a script is running in this machine: wait for its end before the next one")
        if self._control is None or self._root is None or self._shut_down:
            raise MachineError("the machine is shut down: it runs no more scripts")
        self._scripts += 1
        self._status = None
        inside = copy_script(self._root, script, self._scripts)
        asked = json.dumps({"number": self._scripts, "argv": [inside, *arguments]}).encode()
        with stdout.open("wb") as out, stderr.open("wb") as err:
            socket.send_fds(self._control, [asked], [out.fileno(), err.fileno()])

    def poll(self) -> int | None:
        """Give the exit status of the script that was started last (128 + N after signal N); None while it runs."""
        self._hear()
        return self._status

    def shut_down(self) -> bool:
        """Say whether something inside has shut the machine down; a shutdown with a delay counts when it is due."""
        self._hear()
        return self._shut_down

    def calls(self) -> list[list[str]]:
        """Give the calls of the stand-ins, in order: the program's name and its arguments."""
        path = self._calls_file
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def stop(self) -> None:
        """End everything inside, and the machine. Its files stay."""
        for relay in self._relays:
            relay.close()
        self._relays.clear()
        if self._control is not None:
            self._control.close()  # process 1 takes this for the end
            self._control = None
        if self._process is not None and self._process.poll() is None:
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                terminate_tree(self._process.pid, grace_seconds=0.2)
                self._process.wait()
        if self._scripts and self._status is None:
            self._status = _ENDED_WITH_MACHINE

    @property
    def _calls_file(self) -> Path:
        return self.folder / "calls.jsonl"

    def _start(self) -> None:
        self._root = make_root(self.folder / "root", self._way.view)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        calls = os.open(self._calls_file, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        proxy = f"http://127.0.0.1:{PROXY_PORT}" if PROXY_PORT in self._serves else ""
        plan: dict[str, Any] = {
            "environment": environment_inside(self._environment, proxy),
            "control": theirs.fileno(),
            "calls": calls,
            "ports": list(self._serves),
        }
        command = start_command(self._way, self._root, plan)
        try:
            with (self.folder / "machine.log").open("ab") as log:
                keep = (theirs.fileno(), calls)
                self._process = start_child(command, stdout=log, stderr=log, pass_fds=keep, env=plan["environment"])
        finally:
            theirs.close()
            os.close(calls)
        self._wait_until_up(ours)

    def _wait_until_up(self, control: socket.socket) -> None:
        control.settimeout(_START_SECONDS)
        try:
            message, descriptors, _, _ = socket.recv_fds(control, _MESSAGE_BYTES, len(self._serves))
        except OSError as error:
            message, descriptors, reason = b"", [], str(error)
        else:
            reason = self._last_words()
        if not message:
            self.stop()
            raise MachineError(f"the machine did not come up by {self._way.kind}: {reason}")
        control.setblocking(False)
        for descriptor, serve in zip(descriptors, self._serves.values(), strict=True):
            self._relays.append(Relay(socket.socket(fileno=descriptor), serve))

    def _hear(self) -> None:
        """Take in what process 1 has told since."""
        while self._control is not None:
            try:
                message = self._control.recv(_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except ConnectionError:
                message = b""
            if not message:
                self.stop()
                if not self._shut_down:
                    raise MachineError(f"the machine broke: {self._last_words()}")
                return
            self._take(json.loads(message))

    def _take(self, told: dict[str, Any]) -> None:
        if "shut_down" in told:
            self._shut_down = True
        if "exit" in told and told["exit"][0] == self._scripts:
            self._status = told["exit"][1]

    def _last_words(self) -> str:
        lines = (self.folder / "machine.log").read_text(errors="replace").splitlines()
        return " | ".join(lines[-5:]) or "it said nothing"


def _find_way() -> Sandbox:
    try:
        way = find_sandbox()
    except SandboxError as error:
        raise NoNamespacesError(f"scripts of nodes run in namespaces only, and there are none: {error}") from error
    if way.kind == "none":
        raise NoNamespacesError(
            "scripts of nodes run in namespaces only, and this system gives none: install bubblewrap, or allow "
            "user namespaces (see docs/sandbox.md)"
        )
    return way


def _ways_out(environment: Mapping[str, str], package_hosts: Collection[str]) -> dict[int, Serve]:
    """Give who answers inside, by port."""
    ways: dict[int, Serve] = {}
    endpoint = environment.get("AWS_ENDPOINT_URL", "")
    if endpoint:
        parts = urlsplit(endpoint)
        if parts.hostname not in ("127.0.0.1", "localhost") or parts.port is None:
            raise MachineError(f"AWS_ENDPOINT_URL: expected a loopback address and a port, found {endpoint}")
        ways[parts.port] = relay_to((parts.hostname, parts.port))
    if package_hosts:
        ways[PROXY_PORT] = proxy_for(frozenset(package_hosts))
    return ways
