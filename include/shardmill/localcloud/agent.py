"""The agent: brings clusters up, runs their steps, takes them down. It is ticked by the program's main thread."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from shardmill.adapters.store import StoreSettings
from shardmill.localcloud import emr_state as states
from shardmill.localcloud.cluster_table import ClusterTable
from shardmill.localcloud.emr_state import Cluster, Outcome, Reason
from shardmill.localcloud.spark_standalone import JVM_OPTIONS, SparkSettings, SparkStartError, StandaloneCluster
from shardmill.localcloud.step_logs import LogFolder
from shardmill.localcloud.step_run import StepPlace, StepRun
from shardmill.localcloud.translate import LocalNodes

_LOG = logging.getLogger(__name__)


@dataclass
class _Nodes:
    """What stands behind one live cluster."""

    spark: StandaloneCluster
    logs: LogFolder
    runs: dict[str, StepRun]


class Agent:
    """Makes the clusters of the table real.

    All processes are forked from the thread that calls ``tick``, which has to live as long as the program: the
    kernel ends them with it.
    """

    def __init__(
        self, table: ClusterTable, spark: SparkSettings, folder: Path, *, environment: Mapping[str, str]
    ) -> None:
        self._table = table
        self._spark = spark
        self._folder = folder
        self._environment = dict(environment)
        self._store = StoreSettings.from_environment(self._environment)
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="step-files")
        self._nodes: dict[str, _Nodes] = {}
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
            for run in nodes.runs.values():
                run.stop()
            nodes.spark.stop()
        self._nodes.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _advance(self, cluster: Cluster) -> Cluster:
        try:
            if cluster.state == "STARTING":
                self._nodes[cluster.id] = self._bring_up(cluster)
                return self._table.change(cluster.id, states.bootstrapping)
            if cluster.state == "BOOTSTRAPPING":
                if self._nodes[cluster.id].spark.poll():
                    now = self._table.clock()
                    return self._table.change(cluster.id, lambda known: states.ready(known, now))
                return cluster
            if cluster.state == "TERMINATING":
                return self._take_down(cluster)
            self._nodes[cluster.id].spark.keep()
            return self._run_steps(cluster)
        except (SparkStartError, OSError) as error:
            up = cluster.state in ("RUNNING", "WAITING")
            reason = Reason("INSTANCE_FAILURE" if up else "BOOTSTRAP_FAILURE", str(error))
            _LOG.error("cluster=%s error=%s", cluster.id, error)
            now = self._table.clock()
            return self._table.change(cluster.id, lambda known: states.terminating(known, reason, now))

    def _bring_up(self, cluster: Cluster) -> _Nodes:
        spark = StandaloneCluster(self._spark, self._folder / cluster.id, self._environment)
        spark.start()
        return _Nodes(spark, LogFolder(cluster.request.get("LogUri", ""), cluster.id, self._store), {})

    def _run_steps(self, cluster: Cluster) -> Cluster:
        now = self._table.clock()
        self._poll_steps(cluster)
        cluster = self._table.change(cluster.id, lambda known: states.advance(known, now))
        for step in states.startable(cluster):
            started = self._table.change(cluster.id, partial(states.step_started, step_id=step.id, now=now))
            current = started.step(step.id)
            if current is not None and current.state == "RUNNING":
                _LOG.info("cluster=%s step=%s name=%s state=RUNNING", cluster.id, step.id, step.name)
                self._nodes[cluster.id].runs[step.id] = StepRun(started, current, self._place(cluster), self._pool)
        return self._table.change(cluster.id, lambda known: states.advance(known, now))

    def _place(self, cluster: Cluster) -> StepPlace:
        nodes = self._nodes[cluster.id]
        offered = LocalNodes(
            nodes.spark.url, self._spark.slots, self._spark.memory_mib, self._spark.python, JVM_OPTIONS
        )
        return StepPlace(nodes.spark.folder, offered, self._spark, self._environment, self._store, nodes.logs)

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
            for run in nodes.runs.values():
                run.stop()
            self._poll_steps(cluster)
            if nodes.runs:
                return cluster
            nodes.spark.stop()
            del self._nodes[cluster.id]
            for name in ("scratch", "tmp"):
                shutil.rmtree(nodes.spark.folder / name, ignore_errors=True)
        now = self._table.clock()
        return self._table.change(cluster.id, lambda known: states.terminated(known, now))
