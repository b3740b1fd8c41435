"""Process 1 of a machine: starts its scripts, hears the shims, keeps its clock, and takes it down.

It runs inside the machine's namespaces, on the standard library alone. It is given its plan as JSON, and two open
files by number: ``control``, on which scripts are asked for and their ends are told, and ``calls``, to which each call
of a shim is written. When ``control`` is closed at the other end, everything in the machine ends.
"""

from __future__ import annotations

import array
import heapq
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from shardmill.adapters.sandbox.jail import JailError, drop_capabilities, forbid_new_privileges, leave_keyring
from shardmill.localcloud.machine_mounts import build_root, raise_loopback
from shardmill.localcloud.machine_requests import Answer, answer
from shardmill.localcloud.machine_shim import SOCKET

_MESSAGE_BYTES = 1 << 20
_LINGER_SECONDS = 0.5
"""A real machine takes a moment to go down, too: a script's last line after ``shutdown`` is still run."""
_GRACE_SECONDS = 1.0
_FAILED, _NOT_EXECUTABLE = 125, 126


class Init:
    """The loop of process 1: one thread, woken by sockets, by ends of processes and by the clock."""

    def __init__(self, plan: dict[str, Any], control: socket.socket, calls: int) -> None:
        self._environment: dict[str, str] = plan["environment"]
        self._control = control
        self._calls = calls
        self._script: tuple[int, int] | None = None
        self._timers: list[tuple[float, int, list[str]]] = []
        self._numbers = 0
        self._down_at: float | None = None
        self._told_down = False
        self._selector = selectors.DefaultSelector()
        self._shims = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._shims.bind(SOCKET)
        self._shims.listen(64)
        wake, self._woken = socket.socketpair()
        for end in (wake, self._woken):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        self._wake = wake
        for source in (control, self._shims, self._woken):
            self._selector.register(source, selectors.EVENT_READ)

    def serve(self) -> None:
        """Serve until the machine was shut down or let go; then end what is left in it."""
        while self._down_at is None or time.monotonic() < self._down_at + _LINGER_SECONDS:
            for key, _ in self._selector.select(self._pause()):
                if key.fileobj is self._control and not self._hear_control():
                    self._end_everything()
                    return
                if key.fileobj is self._shims:
                    self._hear_shim()
                elif key.fileobj is self._woken:
                    self._woken.recv(4096)
            self._reap()
            self._run_timers()
            if not self._told_down and self._down_at is not None and time.monotonic() >= self._down_at:
                self._told_down = True
                self._tell({"shut_down": True})
        self._end_everything()

    def _pause(self) -> float | None:
        due = [timer[0] for timer in self._timers[:1]]
        if self._down_at is not None:
            now = time.monotonic()
            due.append(self._down_at if now < self._down_at else self._down_at + _LINGER_SECONDS)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _hear_control(self) -> bool:
        """Start a script that is asked for; False where nobody is there any more."""
        descriptors = array.array("i")
        message, ancillary, _, _ = self._control.recvmsg(_MESSAGE_BYTES, socket.CMSG_SPACE(2 * descriptors.itemsize))
        if not message:
            return False
        for _, _, content in ancillary:
            descriptors.frombytes(content)
        asked = json.loads(message)
        streams = dict(zip(("stdout", "stderr"), descriptors, strict=True))
        try:
            pid = self._start(asked["argv"], streams)
        except OSError as error:
            os.write(streams["stderr"], f"{asked['argv'][0]}: {error.strerror}\n".encode())
            self._tell({"exit": [asked["number"], _NOT_EXECUTABLE]})
        else:
            self._script = pid, asked["number"]
        for descriptor in descriptors:
            os.close(descriptor)
        return True

    def _start(self, argv: Sequence[str], streams: dict[str, int] | None = None) -> int:
        where: dict[str, Any] = streams or {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, env=self._environment, cwd="/", start_new_session=True, **where
        )
        child.returncode = 0  # it is reaped here with all others, not by this object
        return child.pid

    def _hear_shim(self) -> None:
        asking, _ = self._shims.accept()
        with asking:
            asking.settimeout(5.0)
            try:
                asked = json.loads(asking.recv(_MESSAGE_BYTES))
            except (ValueError, OSError):
                return  # whoever asked is gone, or is no shim
            os.write(self._calls, json.dumps(asked["argv"]).encode() + b"\n")
            decided = answer(asked["argv"], datetime.now())  # shutdown 12:30 is by the machine's own clock
            self._act(decided)
            become = list(decided.command) if decided.in_seconds is None else []
            told = {"status": decided.status, "message": decided.message, "become": become}
            asking.send(json.dumps(told).encode())

    def _act(self, decided: Answer) -> None:
        if decided.cancel and self._down_at is not None and time.monotonic() < self._down_at:
            self._down_at = None
        if decided.shut_down_in is not None and (self._down_at is None or time.monotonic() < self._down_at):
            self._down_at = time.monotonic() + decided.shut_down_in
        if decided.command and decided.in_seconds is not None:
            self._numbers += 1
            due = time.monotonic() + decided.in_seconds
            heapq.heappush(self._timers, (due, self._numbers, list(decided.command)))

    def _run_timers(self) -> None:
        while self._timers and self._timers[0][0] <= time.monotonic():
            command = heapq.heappop(self._timers)[2]
            try:
                self._start(command)
            except OSError as error:
                print(f"systemd-run: {command[0]}: {error.strerror}", file=sys.stderr, flush=True)

    def _reap(self) -> None:
        """Take leave of every process that ended, orphans too; tell how the script did."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._script is not None and pid == self._script[0]:
                code = os.waitstatus_to_exitcode(status)
                self._tell({"exit": [self._script[1], code if code >= 0 else 128 - code]})
                self._script = None

    def _tell(self, message: dict[str, Any]) -> None:
        try:
            self._control.send(json.dumps(message).encode(), socket.MSG_DONTWAIT)
        except OSError:
            return  # nobody is there any more; the loop hears of it by itself

    def _end_everything(self) -> None:
        """End what is left: asked first, then not. The kernel ends the rest with process 1."""
        for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, _GRACE_SECONDS)):
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                try:
                    os.kill(-1, number)
                except ProcessLookupError:
                    break
                time.sleep(0.05)
                self._reap()
        self._reap()


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(64)
    return listener


def main() -> None:
    """Be process 1. Exit status 125: the machine could not be made; stderr says why."""
    plan = json.loads(sys.argv[1])
    try:
        if "root" in plan:
            build_root(plan["root"])
        raise_loopback()
        leave_keyring()
        drop_capabilities()
        forbid_new_privileges()
    except (JailError, OSError) as error:
        print(f"machine: {error}", file=sys.stderr)
        sys.exit(_FAILED)
    if os.getsid(0) != os.getpid():
        os.setsid()
    os.umask(0o022)
    control = socket.socket(fileno=plan["control"])
    init = Init(plan, control, plan["calls"])
    listeners = [_listen(port) for port in plan["ports"]]
    # Who listens is handed out, too: what connects in here is answered by a thread of the caller's, outside.
    socket.send_fds(control, [b'{"up": true}'], [listener.fileno() for listener in listeners])
    for listener in listeners:
        listener.close()
    init.serve()


if __name__ == "__main__":
    main()
