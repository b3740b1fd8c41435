"""The whole of Shardmill on one machine: local AWS, PostgreSQL and Airflow, started and ended together."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import shardmill
from shardmill.adapters.store import StoreSettings
from shardmill.jobs.sample_records import put_record_sample
from shardmill.laptop import postgres
from shardmill.laptop.airflow import LAKE_ROOT, PROCESSES, USER, Airflow, command, environment, free_port, keys
from shardmill.laptop.processes import ProcessError, Processes
from shardmill.laptop.rest import AirflowApi

API_PORT = 8080
AWS_PORT = 5600
HISTORY_PORT = 18080
START_MINUTES = 6
Say = Callable[[str], None]


@dataclass(frozen=True)
class StackAddress:
    """Where a running stack answers; also what ``running.json`` in its state folder holds."""

    pid: int
    url: str
    aws_endpoint: str
    history_url: str = ""
    """Of Spark's history server; empty where none was asked for."""

    @property
    def store_settings(self) -> StoreSettings:
        """How the local S3 is reached."""
        return StoreSettings(self.aws_endpoint, "us-east-1", "testing", "testing")


class StackBusyError(RuntimeError):
    """Another stack runs in this state folder."""


def project_folder() -> Path:
    """Give the checkout that this package is installed from."""
    return Path(shardmill.__file__).resolve().parents[2]


def default_state() -> Path:
    """Give the state folder of ``make up`` and ``make demo``."""
    return project_folder() / ".local" / "state"


def running_stack(state: Path) -> StackAddress | None:
    """Find the stack that runs in a state folder; None where none does."""
    path = state / "running.json"
    if not path.exists() or _holder(state) is None:
        return None
    return StackAddress(**json.loads(path.read_text()))


def _holder(state: Path) -> int | None:
    """Give the process that starts, runs or ends a stack in a state folder; None where there is none."""
    if not (state / "lock").exists():
        return None
    with (state / "lock").open("r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(lock.read() or 0)
    return None


def open_api(address: StackAddress, state: Path) -> AirflowApi:
    """Log in to the Airflow of a running stack."""
    return AirflowApi(address.url, USER, keys(state)["password"])


@contextmanager
def stack(
    state: Path, say: Say = print, *, slots: int = 2, history: bool = False
) -> Iterator[tuple[StackAddress, Processes]]:
    """Run everything for the length of a with block.

    Args:
        state: folder of all that is kept.
        say: gets a line for each thing that is started.
        slots: Spark workers of each cluster.
        history: whether Spark's history server is wanted too.

    Raises:
        StackBusyError: the state folder is in use.
        ProcessError, PostgresError: something did not start; with the last lines of its log.
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (state / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackBusyError(f"a stack runs in {state} already: use it, or end it by `make down`") from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        with Processes(state / "logs") as processes:
            try:
                address = _start(processes, state, say, slots, history)
                yield address, processes
            finally:
                say("stopping what was started")
                (state / "running.json").unlink(missing_ok=True)


def _start(processes: Processes, state: Path, say: Say, slots: int, history: bool) -> StackAddress:
    started = time.monotonic()
    aws = _start_local_aws(processes, state, slots)
    say(f"local AWS at {aws}")
    put_record_sample(settings=StoreSettings(aws, "us-east-1", "testing", "testing"))
    bare = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
    processes.start("postgres", postgres.server_command(state), bare)
    postgres.create_database(state)
    history_url = _start_history(processes, state, aws) if history else ""
    airflow = Airflow(project_folder(), state, free_port(API_PORT), aws, history_url)
    settings = environment(airflow)
    say("preparing Airflow's database")
    processes.run("db-migrate", command("db", "migrate"), settings)
    for name, arguments in PROCESSES.items():
        processes.start(name, command(*arguments), settings)
    address = StackAddress(os.getpid(), airflow.url, aws, history_url)
    _wait_until_healthy(processes, address, state)
    unfinished = state / "running.unfinished"
    unfinished.write_text(json.dumps(asdict(address)))
    unfinished.rename(state / "running.json")
    say(f"Airflow at {airflow.url} ({time.monotonic() - started:.0f} s to start)")
    return address


def _start_local_aws(processes: Processes, state: Path, slots: int) -> str:
    folder = state / "aws"
    told = folder / "endpoint.json"
    told.unlink(missing_ok=True)
    folder.mkdir(exist_ok=True)
    argv = [sys.executable, "-m", "shardmill.localcloud", "--state", str(folder), "--port", str(AWS_PORT)]
    inherited = {name: os.environ[name] for name in ("HOME", "PATH", "LANG", "TMPDIR") if name in os.environ}
    processes.start("local-aws", [*argv, "--slots", str(slots)], {**inherited, "PYTHONUNBUFFERED": "1"})
    _wait(processes, told.exists, "the local AWS to listen", 60)
    return str(json.loads(told.read_text())["endpoint"])


def _start_history(processes: Processes, state: Path, aws: str) -> str:
    port = free_port(HISTORY_PORT)
    argv = [sys.executable, "-m", "shardmill.laptop.history", "--lake", LAKE_ROOT, "--endpoint", aws]
    argv += ["--folder", str(state / "history"), "--port", str(port)]
    inherited = {name: os.environ[name] for name in ("HOME", "PATH", "LANG", "TMPDIR") if name in os.environ}
    processes.start("history", argv, {**inherited, "PYTHONUNBUFFERED": "1"})
    return f"http://127.0.0.1:{port}"


def _wait_until_healthy(processes: Processes, address: StackAddress, state: Path) -> None:
    with open_api(address, state) as api:
        _wait(processes, api.is_healthy, "Airflow to be healthy", START_MINUTES * 60)
        _wait(processes, lambda: api.has_dag("video_pipeline"), "the DAG video_pipeline to be read", 120)


def _wait(processes: Processes, ready: Callable[[], bool], what: str, seconds: float) -> None:
    give_up = time.monotonic() + seconds
    while not ready():
        processes.check()
        if time.monotonic() > give_up:
            raise ProcessError(f"waited {seconds:.0f} s for {what}: see the logs in {processes.logs}")
        time.sleep(0.3)


def stop_running(state: Path, say: Say = print, patience_seconds: float = 60.0) -> bool:
    """Ask the stack of a state folder to end, and wait for it; says whether one ran."""
    pid = _holder(state)
    if not pid:
        say("nothing runs")
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    give_up = time.monotonic() + patience_seconds
    while _holder(state) == pid:
        if time.monotonic() > give_up:
            raise ProcessError(f"process {pid} did not end within {patience_seconds:.0f} s")
        time.sleep(0.2)
    say("stopped")
    return True
