"""The agent: brings clusters up, runs their steps, takes them down. It is ticked by the program's main thread."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol

from shardmill.adapters.store import StoreSettings
from shardmill.localcloud import emr_state as states
from shardmill.localcloud.bootstrap_run import BootstrapRun, NodeMachine
from shardmill.localcloud.cluster_failures import ClusterFailureError, bootstrap_failed, out_of_capacity
from shardmill.localcloud.cluster_nodes import ClusterNodes, Engine
from shardmill.localcloud.cluster_table import ClusterTable
from shardmill.localcloud.emr_nodes import primary_instance, scarce_type
from shardmill.localcloud.emr_state import Cluster, Outcome, Reason, Step
from shardmill.localcloud.fault_board import FaultBoard
from shardmill.localcloud.machine import Machine, MachineError, NoNamespacesError
from shardmill.localcloud.no_spark import NoSpark
from shardmill.localcloud.spark_standalone import JVM_OPTIONS, SparkSettings, SparkStartError, StandaloneCluster
from shardmill.localcloud.step_logs import LogFolder
from shardmill.localcloud.step_run import StepPlace, StepRun
from shardmill.localcloud.translate import LocalNodes

_LOG = logging.getLogger(__name__)


class MakeMachine(Protocol):
    """Makes what the scripts of a node run in."""

    def __call__(self, folder: Path, *, environment: Mapping[str, str]) -> NodeMachine: ...


class Agent:
    """Makes the clusters of the table real.

    All processes are forked from the thread that calls ``tick``, which has to live as long as the program: the
    kernel ends them with it.
    """

    def __init__(
        self,
        table: ClusterTable,
        spark: SparkSettings,
        folder: Path,
        *,
        environment: Mapping[str, str],
        make_machine: MakeMachine = Machine,
        faults: FaultBoard | None = None,
    ) -> None:
        self._table = table
        self._spark = spark
        self._folder = folder
        self._environment = dict(environment)
        self._make_machine = make_machine
        self._faults = faults or FaultBoard(table.clock)
        self._store = StoreSettings.from_environment(self._environment)
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="step-files")
        self._nodes: dict[str, ClusterNodes] = {}
        self._due: dict[str, float] = {}
        shutil.rmtree(folder, ignore_errors=True)  # of clusters of an earlier start, which are gone
        folder.mkdir(parents=True)

    def tick(self) -> None:
        """Move every cluster on."""
        for cluster in reversed(self._table.all()):
            if cluster.state in (*states.ALIVE, "TERMINATING"):
                before = cluster.state
                after = self._advance(cluster)
                if after.state != before:
                    reason = f" reason={after.reason.message}" if after.reason.message else ""
                    _LOG.info("cluster=%s state=%s%s", cluster.id, after.state, reason)

    def close(self) -> None:
        """End everything that runs; quickly, and without telling the table."""
        for nodes in self._nodes.values():
            nodes.stop()
        self._nodes.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _advance(self, cluster: Cluster) -> Cluster:
        moves: dict[str, Callable[[Cluster], Cluster]] = {
            "STARTING": self._start,
            "BOOTSTRAPPING": self._bootstrap,
            "TERMINATING": self._take_down,
        }
        try:
            return moves.get(cluster.state, self._serve)(cluster)
        except ClusterFailureError as failure:
            return self._terminate(cluster, failure.reason)
        except (SparkStartError, MachineError, OSError) as error:
            up = cluster.state in ("RUNNING", "WAITING")
            _LOG.error("cluster=%s error=%s", cluster.id, error)
            return self._terminate(cluster, Reason("INSTANCE_FAILURE" if up else "BOOTSTRAP_FAILURE", str(error)))

    def _terminate(self, cluster: Cluster, reason: Reason) -> Cluster:
        now = self._table.clock()
        return self._table.change(cluster.id, lambda known: states.terminating(known, reason, now))

    def _start(self, cluster: Cluster) -> Cluster:
        if cluster.id not in self._due:
            slow = self._faults.strikes_cluster("slow_start", cluster)
            self._due[cluster.id] = cluster.created + (slow.seconds or 0.0 if slow else 0.0)
        if self._table.clock() < self._due[cluster.id]:
            return cluster
        if self._faults.strikes_cluster("capacity", cluster):
            raise ClusterFailureError(
                out_of_capacity(scarce_type(cluster), f"{self._environment['AWS_DEFAULT_REGION']}a")
            )
        self._nodes[cluster.id] = self._new_nodes(cluster)
        return self._table.change(cluster.id, states.bootstrapping)

    def _new_nodes(self, cluster: Cluster) -> ClusterNodes:
        folder = self._folder / cluster.id
        logs = LogFolder(cluster.request.get("LogUri", ""), cluster.id, self._store)
        no_spark = self._faults.strikes_cluster("no_spark", cluster)
        engine: Engine = NoSpark(folder) if no_spark else StandaloneCluster(self._spark, folder, self._environment)
        wanted = cluster.request.get("BootstrapActions") and (no_spark is None or no_spark.bootstrap)
        bootstrap = self._bootstrap_run(cluster, folder, logs) if wanted else None
        return ClusterNodes(engine, logs, bootstrap, no_spark)

    def _bootstrap_run(self, cluster: Cluster, folder: Path, logs: LogFolder) -> BootstrapRun | None:
        try:
            machine = self._make_machine(folder / "machine", environment=self._environment)
        except NoNamespacesError as error:
            # What they would do to a node (a timer, a mount) is nothing that a job on this machine needs.
            _LOG.warning("cluster=%s bootstrap actions are left out: %s", cluster.id, error)
            return None
        return BootstrapRun(cluster, machine, folder / "bootstrap-actions", logs=logs, store=self._store)

    def _bootstrap(self, cluster: Cluster) -> Cluster:
        if fault := self._faults.strikes_cluster("bootstrap", cluster):
            raise ClusterFailureError(bootstrap_failed(primary_instance(cluster), 1, 1, fault.text))
        if not self._nodes[cluster.id].come_up(self._pool):
            return cluster
        now = self._table.clock()
        return self._table.change(cluster.id, lambda known: states.ready(known, now))

    def _serve(self, cluster: Cluster) -> Cluster:
        if self._faults.strikes_cluster("terminated", cluster):
            return self._terminate(cluster, Reason("USER_REQUEST", "Terminated by user request"))
        self._nodes[cluster.id].keep(cluster, self._faults)
        return self._run_steps(cluster)

    def _run_steps(self, cluster: Cluster) -> Cluster:
        now = self._table.clock()
        self._poll_steps(cluster)
        cluster = self._table.change(cluster.id, lambda known: states.advance(known, now))
        for step in states.startable(cluster):
            started = self._table.change(cluster.id, partial(states.step_started, step_id=step.id, now=now))
            current = started.step(step.id)
            if current is not None and current.state == "RUNNING":
                _LOG.info("cluster=%s step=%s name=%s state=RUNNING", cluster.id, step.id, step.name)
                self._nodes[cluster.id].runs[step.id] = self._new_run(started, current)
        return self._table.change(cluster.id, lambda known: states.advance(known, now))

    def _new_run(self, cluster: Cluster, step: Step) -> StepRun:
        nodes, spark = self._nodes[cluster.id], self._spark
        stand_in = (
            self._faults.strikes_step("step_failure", cluster, step)
            or self._faults.strikes_step("step_hang", cluster, step)
            or nodes.no_spark
        )
        offered = LocalNodes(nodes.engine.url, spark.slots, spark.memory_mib, spark.python, JVM_OPTIONS)
        place = StepPlace(nodes.engine.folder, offered, spark, self._environment, self._store, nodes.logs)
        return StepRun(cluster, step, place, self._pool, stand_in)

    def _poll_steps(self, cluster: Cluster) -> None:
        runs = self._nodes[cluster.id].runs
        for step in cluster.steps_in(states.ACTIVE_STEP):
            run = runs.get(step.id)
            if run is None:  # its start failed, and the cluster with it
                self._end_step(cluster, step.id, Outcome("INTERRUPTED"))
                continue
            if step.state == "CANCEL_PENDING":
                run.stop()
            outcome = run.poll()
            if outcome is not None:
                del runs[step.id]
                self._end_step(cluster, step.id, outcome)

    def _end_step(self, cluster: Cluster, step_id: str, outcome: Outcome) -> None:
        now = self._table.clock()
        _LOG.info("cluster=%s step=%s state=%s", cluster.id, step_id, outcome.state)
        self._table.change(cluster.id, lambda known: states.step_ended(known, step_id, outcome, now))

    def _take_down(self, cluster: Cluster) -> Cluster:
        nodes = self._nodes.get(cluster.id)
        if nodes is not None:
            nodes.stop_steps()
            self._poll_steps(cluster)
            if nodes.runs:
                return cluster
            nodes.stop()
            del self._nodes[cluster.id]
            for name in ("scratch", "tmp", "machine"):
                shutil.rmtree(nodes.engine.folder / name, ignore_errors=True)
        self._due.pop(cluster.id, None)
        now = self._table.clock()
        return self._table.change(cluster.id, lambda known: states.terminated(known, now))
