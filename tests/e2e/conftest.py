"""The whole stack, as `make up` starts it, in a folder of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from stack_process import stack_process

from shardmill.adapters.store import Store
from shardmill.jobs.sample import make_sample
from shardmill.laptop.demo import DAG, watch
from shardmill.laptop.rest import AirflowApi, TaskState
from shardmill.laptop.stack import StackAddress, open_api

PATIENCE_SECONDS = 360


@dataclass(frozen=True)
class Laptop:
    """A running stack and how to talk to it."""

    address: StackAddress
    api: AirflowApi
    state: Path
    source: Path

    def conf(self, **changes: Any) -> dict[str, Any]:
        """Fill in the form for the small sample."""
        values = {"source": f"file://{self.source}", "dataset": "small", "batch_mb": 1, "batch_size": 8, "epochs": 2}
        return values | changes

    def run(self, run_id: str, **changes: Any) -> str:
        """Trigger a run, wait for its end, give its state."""
        self.api.trigger(DAG, self.conf(**changes), run_id)
        return watch(self.api, run_id)

    def wait_for(self, run_id: str, task: str, state: str) -> None:
        """Wait until a task is in a state; fail where the run ends before."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while (found := self.tasks(run_id)).get(task) is None or found[task].state != state:
            assert time.monotonic() < give_up, found
            assert self.api.run_state(DAG, run_id) not in ("success", "failed"), found
            time.sleep(0.3)

    def delete_from_lake(self, key: str) -> None:
        """Delete an object behind the pipeline's back."""
        self._client("s3").delete_object(Bucket="shardmill-lake", Key=key)

    def tasks(self, run_id: str) -> dict[str, TaskState]:
        return {task.name: task for task in self.api.task_states(DAG, run_id)}

    def log(self, run_id: str, task: str) -> str:
        return "\n".join(self.api.log_lines(DAG, run_id, self.tasks(run_id)[task]))

    def why(self, run_id: str) -> str:
        """Give what the tasks that failed in a run said last."""
        failed = [name for name, task in self.tasks(run_id).items() if task.state == "failed"]
        return "\n".join(f"{name}: {self.log(run_id, name)[-4000:]}" for name in failed)

    def lake(self) -> Store:
        return Store("s3://shardmill-lake", self.address.store_settings)

    def committed(self) -> dict[str, str]:
        """Give the version of everything that runs commit: neither pages that are told anew nor what a clock writes.

        ``reports/`` is the reaper's, whose schedule falls into whatever a test does.
        """
        items = self.lake().list()
        return {i.key: i.version for i in items if "report.html" not in i.key and not i.key.startswith("reports/")}

    def _client(self, service: str) -> Any:
        return boto3.client(
            service,
            region_name="us-east-1",
            endpoint_url=self.address.aws_endpoint,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    def spark_applications(self, count: int) -> set[str]:
        """Give the names of the applications that Spark's history server shows, once there are so many."""
        give_up = time.monotonic() + 60
        while True:
            url = f"{self.address.history_url}/api/v1/applications"
            found = httpx.get(url, trust_env=False, timeout=60.0).json()  # it reads event logs when it is asked
            if len(found) >= count or time.monotonic() > give_up:
                return {application["name"] for application in found}
            time.sleep(1.0)

    def cluster_states(self) -> list[str]:
        pages = self._client("emr").get_paginator("list_clusters").paginate()
        return [cluster["Status"]["State"] for page in pages for cluster in page["Clusters"]]


@pytest.fixture(scope="session")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    folder = tmp_path_factory.mktemp("laptop")
    allowed = {"SHARDMILL_SOURCE_ROOTS": f"file://{folder}"}
    source = folder / "sample"
    with (
        stack_process(
            folder, "--no-sample", environment=allowed, meanwhile=lambda: make_sample(source, videos=30, shards=2)
        ) as (address, state),
        open_api(address, state) as api,
    ):
        yield Laptop(address, api, state, source)
