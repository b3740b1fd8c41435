"""A Spark standalone cluster on loopback: a master and workers of one core each, JVMs that end with us."""

from __future__ import annotations

import logging
import re
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shardmill.adapters.process import (
    ProcessInfo,
    kill_until_gone,
    process_tree,
    read_process,
    start_child,
    terminate_tree,
)

_LOG = logging.getLogger(__name__)
_MASTER = "org.apache.spark.deploy.master.Master"
_WORKER = "org.apache.spark.deploy.worker.Worker"
_MASTER_URL = re.compile(r"Starting Spark master at (spark://\S+)")
_REGISTERED = "Successfully registered with master"
_START_SECONDS = 90.0
JVM_OPTIONS = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData"
"""Quick to start: the work is Python's, and a test's job is over before a JVM would have optimised anything."""


class SparkStartError(RuntimeError):
    """Spark did not come up, or its master is gone."""


@dataclass(frozen=True)
class SparkSettings:
    """Where Spark is, and how much of the machine a cluster gets."""

    spark_home: Path
    java_home: str
    python: str
    """Python of driver and executors."""
    slots: int = 2
    """Workers of one core each."""
    memory_mib: int = 1024
    """JVM heap of each worker's executors; Python's memory comes on top."""


def spark_environment(settings: SparkSettings, folder: Path, host: str = "127.0.0.1") -> dict[str, str]:
    """Give the whole environment of a process of Spark; nothing is taken over from ours."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder / "home"),
        "LANG": "C.UTF-8",
        "TMPDIR": str(folder / "tmp"),
        "JAVA_HOME": settings.java_home,
        "SPARK_HOME": str(settings.spark_home),
        "SPARK_LAUNCHER_OPTS": JVM_OPTIONS,
        "SPARK_CONF_DIR": str(folder / "conf"),
        "SPARK_LOCAL_IP": host,
        "SPARK_LOCAL_HOSTNAME": host,
        "SPARK_LOCAL_DIRS": str(folder / "scratch"),
        "PYSPARK_PYTHON": settings.python,
        "PYSPARK_DRIVER_PYTHON": settings.python,
        "PYTHONHASHSEED": "0",
    }


def worker_hosts(count: int) -> list[str]:
    """Give each worker a loopback address of its own, for Spark tells nodes apart by it; else all have the first."""
    hosts = []
    for number in range(1, count + 1):
        host = f"127.0.0.{number}"
        try:
            with socket.socket() as probe:
                probe.bind((host, 0))
        except OSError:  # only Linux has the whole of 127.0.0.0/8 by itself
            host = "127.0.0.1"
        hosts.append(host)
    return hosts


class StandaloneCluster:
    """Master and workers below one folder. To be used by one long-lived thread: the JVMs die with it."""

    def __init__(self, settings: SparkSettings, folder: Path, environment: Mapping[str, str]) -> None:
        self.settings = settings
        self.folder = folder
        self.url = ""
        self._environment = environment
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._hosts = dict(
            zip((f"worker-{n}" for n in range(settings.slots)), worker_hosts(settings.slots), strict=True)
        )
        self._deadline = 0.0

    def start(self) -> None:
        """Start the master; ``poll`` does the rest."""
        for name in ("home", "tmp", "conf", "scratch"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._deadline = time.monotonic() + _START_SECONDS
        self._spawn("master", "127.0.0.1", [_MASTER, "--host", "127.0.0.1", "--port", "0", "--webui-port", "0"])

    def poll(self) -> bool:
        """Move the start on; True once all workers are registered. Raises SparkStartError."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise SparkStartError(f"Spark's {name} ended with status {process.returncode}: {self._tail(name)}")
        if time.monotonic() > self._deadline:
            late = ", ".join(self._processes)
            raise SparkStartError(f"Spark was not up after {_START_SECONDS:.0f} s ({late}): {self._tail('master')}")
        if not self.url:
            match = _MASTER_URL.search(self._log("master"))
            if match is not None:
                self.url = match[1]
                for name in self._hosts:
                    self._start_worker(name)
            return False
        return all(_REGISTERED in self._log(name) for name in self._hosts)

    def keep(self) -> None:
        """Start a worker again that is gone, as EMR replaces a node. Raises SparkStartError where the master is."""
        for name, process in list(self._processes.items()):
            if process.poll() is None:
                continue
            if name == "master":
                raise SparkStartError(f"Spark's master ended with status {process.returncode}: {self._tail(name)}")
            _LOG.warning("worker gone, starting another name=%s status=%s", name, process.returncode)
            self._start_worker(name)

    def lose_worker(self) -> None:
        """Kill a worker and its executors without a word, as a node is lost; ``keep`` replaces it."""
        alive = [self._processes[name] for name in self._hosts if name in self._processes]
        worker = next((process for process in alive if process.poll() is None), None)
        if worker is not None:
            lost = process_tree(worker.pid)  # taken once: orphans are nobody's descendants
            kill_until_gone(lambda: {one for one in lost if _is_there(one)})

    def stop(self) -> None:
        """End workers, executors and master, and remove their scratch files."""
        for name in (*self._hosts, "master"):
            process = self._processes.pop(name, None)
            if process is not None:
                terminate_tree(process.pid, grace_seconds=0.5)
                process.wait()

    def _start_worker(self, name: str) -> None:
        host, memory = self._hosts[name], f"{self.settings.memory_mib}m"
        options = ["--host", host, "--cores", "1", "--memory", memory, "--port", "0", "--webui-port", "0"]
        self._spawn(name, host, [_WORKER, *options, "--work-dir", str(self.folder / "work" / name), self.url])

    def _spawn(self, name: str, host: str, arguments: list[str]) -> None:
        environment = {
            **spark_environment(self.settings, self.folder, host),
            **self._environment,
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": f"{JVM_OPTIONS} -Djava.io.tmpdir={self.folder / 'tmp'}",
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = start_child(
                [str(self.settings.spark_home / "bin" / "spark-class"), *arguments],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=environment,
            )

    def _log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def _tail(self, name: str) -> str:
        return " | ".join(self._log(name).splitlines()[-5:]) or "its log is empty"


def _is_there(known: ProcessInfo) -> bool:
    now = read_process(known.pid)
    return now is not None and now.started == known.started
