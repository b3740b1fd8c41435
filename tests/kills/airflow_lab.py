"""A real Airflow before a local EMR without Spark: its processes may be killed, and come back as under systemd."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shardmill.adapters.crash_points import FOLDER
from shardmill.adapters.process import ProcessInfo, die_with_parent, kill_until_gone, process_tree
from shardmill.adapters.run_folder import freeze
from shardmill.adapters.store import Store
from shardmill.laptop import postgres
from shardmill.laptop.airflow import PROCESSES, USER, Airflow, command, environment, free_port, keys
from shardmill.laptop.processes import tail
from shardmill.laptop.rest import ENDED, AirflowApi
from shardmill.laptop.stack import StackAddress, project_folder
from shardmill.localcloud.faults import set_faults
from shardmill.localcloud.launch import LocalCloud, local_cloud
from shardmill.localcloud.seed import client
from shardmill.specs.manifest import SourceObject
from shardmill.specs.run import PlannedShard, RunPlan, RunSpec
from shardmill.specs.video_pipeline import VideoPipelineSpec

DAG = "cluster_only"
LAKE = "s3://shardmill-lake/kills"
STEP_SECONDS = 3.0
_PATIENCE = 240.0
RESULT = "the result of {name}"
NO_SPARK = {
    "kind": "no_spark",
    "seconds": STEP_SECONDS,
    # The commit, and beside it a file for each step that came so far: two of them were work done twice.
    "writes": {"{folder}/model/model.json": RESULT, "{folder}/by-step/{step}": RESULT},
}


@dataclass
class Watched:
    """How many clusters of each name were seen alive at once, and for how long there was more than one."""

    most: dict[str, int] = field(default_factory=dict)
    surplus_since: dict[str, float] = field(default_factory=dict)
    longest_surplus: float = 0.0


@dataclass
class AirflowLab:
    """The stack and how to hurt it."""

    cloud: LocalCloud
    api: AirflowApi
    folder: Path
    settings: dict[str, str]
    running: dict[str, subprocess.Popen[bytes]]
    former: list[subprocess.Popen[bytes]] = field(default_factory=list)
    """Those that were killed: their workers may outlive them."""
    watched: Watched = field(default_factory=Watched)

    def __post_init__(self) -> None:
        self.emr: Any = client("emr", self.cloud.endpoint)
        self.lake = Store(LAKE, StackAddress(0, "", self.cloud.endpoint).store_settings)

    def begin(self, run: str, crash: Mapping[str, str] | None = None, **asked: Any) -> None:
        """Write a run into the lake, arm its crash points (what is killed, by point), and trigger it."""
        for point, what in (crash or {}).items():
            (self.folder / "crash" / f"{run}.{point}").write_text(what)
        spec = RunSpec(run=run, started="2026-11-21T00:00:00+00:00", asked=VideoPipelineSpec(lake=LAKE, **asked))
        source = SourceObject(uri="s3://shardmill-source/s-000000.tar", size=1, version="v")
        freeze(self.lake, run, "plan.json", RunPlan(shards=(PlannedShard(shard=0, source=source),)))
        freeze(self.lake, run, "spec.json", spec)
        self.api.trigger(DAG, {"spec_uri": f"{LAKE}/runs/{run}/spec.json"}, run)

    def look(self) -> None:
        """Note which clusters are alive, and start again what ended."""
        alive: dict[str, int] = {}
        states = ["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING"]
        for page in self.emr.get_paginator("list_clusters").paginate(ClusterStates=states):
            for cluster in page["Clusters"]:
                alive[cluster["Name"]] = alive.get(cluster["Name"], 0) + 1
        now = time.monotonic()
        for name, count in alive.items():
            self.watched.most[name] = max(count, self.watched.most.get(name, 0))
            if count > 1:
                since = self.watched.surplus_since.setdefault(name, now)
                self.watched.longest_surplus = max(self.watched.longest_surplus, now - since)
        for name in [name for name in self.watched.surplus_since if alive.get(name, 0) < 2]:
            del self.watched.surplus_since[name]
        for name in PROCESSES:
            if self.running[name].poll() is not None:
                self.start(name)

    def start(self, name: str) -> None:
        """Start one of Airflow's processes."""
        self.former.append(self.running[name])
        self.running[name] = _start(name, command(*PROCESSES[name]), self.settings, self.folder)

    def wait(self, run: str, seconds: float = _PATIENCE) -> str:
        """Wait for the end of a run; give its state."""
        give_up = time.monotonic() + seconds
        while (state := self.api.run_state(DAG, run)) not in ENDED:
            assert time.monotonic() < give_up, (run, state, self.api.task_states(DAG, run))
            self.look()
            time.sleep(0.5)
        return state

    def log(self, run: str, task: str) -> str:
        """Give the log of a task's last try."""
        (found,) = [one for one in self.api.task_states(DAG, run) if one.task == task]
        return "\n".join(self.api.log_lines(DAG, run, found))

    def clusters(self) -> dict[str, list[str]]:
        """Give the states of all clusters that there ever were, by name."""
        found: dict[str, list[str]] = {}
        for page in self.emr.get_paginator("list_clusters").paginate():
            for cluster in page["Clusters"]:
                found.setdefault(cluster["Name"], []).append(cluster["Status"]["State"])
        return found

    def steps_done(self, run: str) -> list[str]:
        """Give the ids of the steps that came to their end."""
        return [item.key.rpartition("/")[2] for item in self.lake.list(f"runs/{run}/by-step")]

    def result(self, run: str) -> str:
        """Give what the run committed."""
        return self.lake.get(f"runs/{run}/model/model.json").decode()

    def workers(self) -> list[ProcessInfo]:
        """Find the processes that execute tasks: LocalExecutor's, below the scheduler, and the tasks below them."""
        scheduler = self.running["scheduler"].pid
        return [info for info in process_tree(scheduler) if info.pid != scheduler and _is_worker(info.pid)]


def _is_worker(pid: int) -> bool:
    with suppress(OSError):
        return b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _start(name: str, argv: list[str], settings: Mapping[str, str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            argv,
            env=dict(settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it makes one system call
        )


@contextmanager
def airflow_lab(
    folder: Path, dags: Path | None = None, dag: str = DAG, more: Mapping[str, str] | None = None
) -> Iterator[AirflowLab]:
    """Run the stack for the length of a with block; afterwards nothing of it is left.

    Args:
        dags: the DAGs folder, of which ``dag`` is awaited; None for that of the clusters.
        more: of the environment of Airflow's processes.
    """
    (folder / "crash").mkdir(parents=True)
    running: dict[str, subprocess.Popen[bytes]] = {}
    former: list[subprocess.Popen[bytes]] = []
    with local_cloud(folder / "aws") as cloud:
        set_faults(cloud.endpoint, [NO_SPARK])
        try:
            bare = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
            running["postgres"] = _start("postgres", postgres.server_command(folder), bare, folder)
            postgres.create_database(folder)
            airflow = Airflow(project_folder(), folder, free_port(0), cloud.endpoint)
            settings = environment(airflow) | {
                "AIRFLOW__CORE__DAGS_FOLDER": str(dags or Path(__file__).parent / "dags"),
                FOLDER: str(folder / "crash"),
                # What a killed process had taken on is noticed sooner; not below the fence of a worker's own.
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "120",
                "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "60",
                "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "120",
                **(more or {}),
            }
            subprocess.run(command("db", "migrate"), env=settings, check=True, capture_output=True)
            for name in PROCESSES:
                running[name] = _start(name, command(*PROCESSES[name]), settings, folder)
            with AirflowApi(airflow.url, USER, keys(folder)["password"]) as api:
                _wait_until_ready(api, running, folder, dag)
                yield AirflowLab(cloud, api, folder, settings, running, former)
        finally:
            for process in reversed(running.values()):
                process.send_signal(signal.SIGTERM)
            for process in reversed(running.values()):
                with suppress(subprocess.TimeoutExpired):
                    process.wait(15)
            kill_until_gone(lambda: {info for one in (*running.values(), *former) for info in process_tree(one.pid)})


def _wait_until_ready(api: AirflowApi, running: Mapping[str, subprocess.Popen[bytes]], folder: Path, dag: str) -> None:
    give_up = time.monotonic() + _PATIENCE
    while not (api.is_healthy() and api.has_dag(dag)):
        for name, process in running.items():
            assert process.poll() is None, tail(folder / f"{name}.log")
        assert time.monotonic() < give_up, {name: tail(folder / f"{name}.log", 5) for name in running}
        time.sleep(0.5)


def points_left(lab: AirflowLab) -> list[str]:
    """List the crash points that were armed and never reached."""
    return sorted(path.name for path in (lab.folder / "crash").iterdir())
