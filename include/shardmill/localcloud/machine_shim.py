"""Inside a machine this stands in the place of programs that would change a system: it tells the machine's process 1.

A script of its own, on the standard library alone; called as ``machine_shim.py NAME ARGUMENT…``.
"""

from __future__ import annotations

import json
import os
import socket
import sys

SOCKET = "/run/machine.sock"
_NOT_FOUND = 127


def main(argv: list[str]) -> int:
    """Report the call; then exit as process 1 says, or become the command that it names (sudo)."""
    name = argv[0].rpartition("/")[2]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
        asking.connect(SOCKET)
        asking.send(json.dumps({"argv": [name, *argv[1:]], "cwd": os.getcwd()}).encode())  # noqa: PTH109
        told = json.loads(asking.recv(1 << 20))
    if told["message"]:
        print(told["message"], file=sys.stderr)
    if not told["become"]:
        return int(told["status"])
    command = told["become"]
    while command and "=" in command[0].split("/")[0]:  # sudo NAME=value command
        variable, _, value = command.pop(0).partition("=")
        os.environ[variable] = value
    if not command:
        return 0
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        print(f"{name}: {command[0]}: {error.strerror}", file=sys.stderr)
        return _NOT_FOUND


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
