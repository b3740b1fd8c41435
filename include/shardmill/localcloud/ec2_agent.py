"""Makes EC2's instances real as far as their user data goes: each runs in a machine of its own, until it is ended."""

from __future__ import annotations

import gzip
import logging
import os
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shardmill.localcloud.machine import Machine, MachineError

_LOG = logging.getLogger(__name__)
_PACKAGE_HOSTS = ("pypi.org", "files.pythonhosted.org")
_INDEX_VARIABLES = ("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX")
_PASSED_ON = ("PIP_INDEX_URL", "PIP_CERT", "SSL_CERT_FILE")
"""How this host's own pip finds packages; all that a script is told of it."""
_INITIATED = "Client.InstanceInitiatedShutdown"
_GZIP = b"\x1f\x8b"


class Ec2Agent:
    """Runs the user data of running instances, and moves an instance on when its machine shuts itself down.

    To be ticked by one long-lived thread, from which every process is forked.
    """

    def __init__(self, ec2: Any, folder: Path, *, environment: Mapping[str, str]) -> None:
        """Take a backend of moto's EC2.

        Args:
            ec2: the backend, with the instances of a region.
            folder: of the machines' files; made anew.
            environment: what finds the local AWS, and marks its processes. Scripts are given no credentials of it.
        """
        self._ec2 = ec2
        self._folder = folder
        names = ("AWS_ENDPOINT_URL", *(name for name in environment if name.startswith("SHARDMILL_")))
        self._environment = {name: environment[name] for name in names}
        self._environment |= {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        self._machines: dict[str, Machine] = {}
        self._begun: set[str] = set()
        self._ended: set[str] = set()
        self._disks: set[str] = set()
        shutil.rmtree(folder, ignore_errors=True)

    def tick(self) -> None:
        """Start what is new, take up what was shut down, end what was stopped or terminated."""
        for instance in self._ec2.all_instances():
            if instance.state == "running" and instance.id not in self._begun:
                self._begun.add(instance.id)  # user data is run once in an instance's life
                if instance.user_data is not None:
                    self._boot(instance)
            elif instance.id in self._machines:
                self._look_at(instance, self._machines[instance.id])
            elif instance.id in self._disks and instance.state == "terminated":
                self._delete_disk(instance)

    def close(self) -> None:
        """End every machine."""
        for machine in self._machines.values():
            machine.stop()
        self._machines.clear()

    def _boot(self, instance: Any) -> None:
        folder = self._folder / instance.id
        folder.mkdir(parents=True, exist_ok=True)
        script = folder / "user-data"
        script.write_bytes(_script(instance.user_data))
        if not script.read_bytes().startswith(b"#!"):
            _LOG.warning("instance=%s its user data is no script: expected #! at its start", instance.id)
            return
        try:
            machine = Machine(folder / "machine", environment=self._environment, package_hosts=_package_hosts())
            machine.run(script, [], stdout=folder / "stdout", stderr=folder / "stderr")
        except (MachineError, OSError) as error:
            _LOG.error("instance=%s error=%s", instance.id, error)
            self._power_off(instance, f"Server.InternalError: {error}")
            return
        self._machines[instance.id] = machine
        self._disks.add(instance.id)
        _LOG.info("instance=%s state=running user_data=%s", instance.id, script)

    def _look_at(self, instance: Any, machine: Machine) -> None:
        try:
            gone, status = machine.shut_down(), machine.poll()
        except MachineError as error:
            _LOG.error("instance=%s error=%s", instance.id, error)
            self._end(instance, machine)
            self._power_off(instance, f"Server.InternalError: {error}")
            return
        if status is not None and instance.id not in self._ended:
            self._ended.add(instance.id)
            _LOG.info("instance=%s user data ended status=%s", instance.id, status)
        if gone:
            self._end(instance, machine)
            self._power_off(instance, f"{_INITIATED}: Instance initiated shutdown")
        elif instance.state != "running":  # by someone outside
            self._end(instance, machine)

    def _end(self, instance: Any, machine: Machine) -> None:
        machine.stop()
        del self._machines[instance.id]

    def _delete_disk(self, instance: Any) -> None:
        """Remove what a terminated instance has installed, in a thread: it may be gigabytes. Its logs stay."""
        self._disks.remove(instance.id)
        disk = self._folder / instance.id / "machine" / "root"
        threading.Thread(target=shutil.rmtree, args=(disk, True), name="disk", daemon=True).start()

    def _power_off(self, instance: Any, reason: str) -> None:
        """Do what the instance's shutdown behaviour says, unless someone has done it."""
        if instance.state != "running":
            return
        if instance.instance_initiated_shutdown_behavior == "terminate":
            self._ec2.terminate_instances([instance.id])
        else:
            self._ec2.stop_instances([instance.id])
        instance.state_reason.message, instance.state_reason.code = reason, reason.partition(":")[0]
        _LOG.info("instance=%s state=%s reason=%s", instance.id, instance.state, reason)


def _script(user_data: Any) -> bytes:
    content: bytes = user_data.decode("latin-1").encode("latin-1")
    return gzip.decompress(content) if content.startswith(_GZIP) else content


def _package_hosts() -> set[str]:
    """Give the package indexes that a script may reach: PyPI's, or those that this host's own pip asks."""
    named = [urlsplit(os.environ[name]).hostname for name in _INDEX_VARIABLES if name in os.environ]
    return {*_PACKAGE_HOSTS, *(host for host in named if host)}
