"""What stands behind one live cluster: its machine, its Spark, its logs, and the steps that run."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from shardmill.localcloud.bootstrap_run import BootstrapRun
from shardmill.localcloud.cluster_failures import ClusterFailureError, core_nodes_lost
from shardmill.localcloud.emr_state import Cluster
from shardmill.localcloud.fault_board import FaultBoard
from shardmill.localcloud.fault_state import Fault
from shardmill.localcloud.step_logs import LogFolder
from shardmill.localcloud.step_run import StepRun


class Engine(Protocol):
    """What steps run on: a ``StandaloneCluster``, or ``NoSpark``."""

    folder: Path
    url: str

    def start(self) -> None: ...

    def poll(self) -> bool: ...

    def keep(self) -> None: ...

    def lose_worker(self) -> None: ...

    def stop(self) -> None: ...


@dataclass
class ClusterNodes:
    """To be used by one long-lived thread: the processes die with it."""

    engine: Engine
    logs: LogFolder
    bootstrap: BootstrapRun | None
    """None where the cluster has no bootstrap actions."""
    no_spark: Fault | None
    """The fault by which there is no Spark, or None."""
    runs: dict[str, StepRun] = field(default_factory=dict)
    _started: bool = False

    def come_up(self, pool: Executor) -> bool:
        """Move the start on; True once steps may run. Raises ClusterFailureError, SparkStartError."""
        if not self._started:
            if self.bootstrap is not None and not self.bootstrap.poll(pool):
                return False
            self._started = True
            self.engine.start()
        if self.bootstrap is not None:
            self.bootstrap.check()
        return self.engine.poll()

    def keep(self, cluster: Cluster, faults: FaultBoard) -> None:
        """Replace what was lost. Raises ClusterFailureError, SparkStartError."""
        if self.bootstrap is not None:
            self.bootstrap.check()
        if fault := faults.strikes_cluster("node_lost", cluster):
            if fault.all:
                raise ClusterFailureError(core_nodes_lost())
            self.engine.lose_worker()
        self.engine.keep()

    def stop_steps(self) -> None:
        """End the steps that run; their outcomes are still to be polled."""
        for run in self.runs.values():
            run.stop()

    def stop(self) -> None:
        """End everything."""
        self.stop_steps()
        self.engine.stop()
        if self.bootstrap is not None:
            self.bootstrap.stop()
