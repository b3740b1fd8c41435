"""The agent with a machine that is no machine, and no Spark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from shardmill.localcloud.agent import Agent
from shardmill.localcloud.cluster_table import ClusterTable
from shardmill.localcloud.emr_state import Cluster
from shardmill.localcloud.fault_board import FaultBoard
from shardmill.localcloud.fault_state import Fault
from shardmill.localcloud.machine import NoNamespacesError
from shardmill.localcloud.spark_standalone import SparkSettings

GROUPS = [
    {"InstanceRole": role, "InstanceType": "m5.xlarge", "InstanceCount": count}
    for role, count in (("CORE", 2), ("MASTER", 1))
]
ACTION = {"Name": "a", "ScriptBootstrapAction": {"Path": "s3://b/a.sh", "Args": ["1"]}}


class FakeMachine:
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.ran: list[Sequence[str]] = []
        self.stopped = False

    def run(self, script: Path, arguments: Sequence[str], *, stdout: Path, stderr: Path) -> None:
        self.ran.append([script.name, *arguments])

    def poll(self) -> int | None:
        return None

    def shut_down(self) -> bool:
        return False

    def stop(self) -> None:
        self.stopped = True


class World:
    """An agent and its clusters; the clock is the test's."""

    def __init__(self, folder: Path, machine: FakeMachine | None) -> None:
        self.now = 1000.0
        self.machine = machine
        self.table = ClusterTable(clock=lambda: self.now)
        board = FaultBoard(clock=lambda: self.now)
        board.switch_on([Fault(kind="no_spark")])
        environment = {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
        spark = SparkSettings(folder, "", "python")
        self.agent = Agent(
            self.table, spark, folder / "clusters", environment=environment, make_machine=self.make, faults=board
        )

    def make(self, folder: Path, *, environment: Mapping[str, str]) -> FakeMachine:
        if self.machine is None:
            raise NoNamespacesError("there are no namespaces")
        return self.machine

    def start(self, *actions: dict[str, Any]) -> None:
        request = {"Name": "c", "Instances": {"InstanceGroups": GROUPS}, "BootstrapActions": list(actions)}
        self.table.add(Cluster("j-1", request, self.now, keeps_alive=True))

    def tick(self, count: int = 1) -> Cluster:
        for _ in range(count):
            self.agent.tick()
        found = self.table.find("j-1")
        assert found is not None
        return found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, FakeMachine())
    yield made
    made.agent.close()


def test_without_namespaces_scripts_of_nodes_are_left_out_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path, None)
    world.start(ACTION)
    assert world.tick(2).state == "WAITING"
    assert "bootstrap actions are left out: there are no namespaces" in caplog.text
    assert not (tmp_path / "clusters" / "j-1" / "bootstrap-actions").exists()
    world.agent.close()


def test_a_cluster_without_bootstrap_actions_asks_for_no_machine(tmp_path: Path) -> None:
    world = World(tmp_path, None)
    world.start()
    assert world.tick(2).state == "WAITING"
    world.agent.close()


def test_a_script_that_is_not_at_s3_ends_the_cluster(world: World) -> None:
    world.start({"Name": "a", "ScriptBootstrapAction": {"Path": "file:/usr/share/aws/emr/scripts/x"}})
    while (cluster := world.tick()).state != "TERMINATED_WITH_ERRORS":
        assert cluster.state in ("BOOTSTRAPPING", "TERMINATING")
    assert "expected s3://bucket/key, found file:/usr/share" in cluster.reason.message
    assert world.machine is not None
    assert world.machine.stopped
    assert world.machine.ran == []
