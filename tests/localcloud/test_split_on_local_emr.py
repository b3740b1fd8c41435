"""Splitting on an EMR cluster of the local AWS: what executors go through does not show in what they make."""

from __future__ import annotations

import gzip
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shardmill import stages
from shardmill.adapters import emr as clusters
from shardmill.adapters import lake as commits
from shardmill.adapters.access import Access
from shardmill.adapters.code_archive import ship_code
from shardmill.adapters.process import ProcessInfo, process_tree, read_process
from shardmill.adapters.roots import LAKES, SOURCES
from shardmill.adapters.run_folder import load
from shardmill.adapters.sandbox import UNSANDBOXED_OK
from shardmill.adapters.store import Store, StoreSettings
from shardmill.core.emr_request import cluster_request, spark_step, whole_nodes
from shardmill.jobs.plan import plan_run
from shardmill.jobs.sample import make_sample
from shardmill.jobs.split_on_cluster import RESULT
from shardmill.localcloud.launch import LocalCloud, local_cloud
from shardmill.localcloud.seed import client
from shardmill.specs.cluster import ClusterSpec
from shardmill.specs.manifest import Manifest
from shardmill.specs.split_outcome import SplitResult
from shardmill.specs.video_pipeline import VideoPipelineSpec

CLUSTER_PYTHON = Path(sys.prefix).parent / "cluster" / "bin" / "python"
pytestmark = [
    pytest.mark.skipif(not CLUSTER_PYTHON.exists(), reason=f"no cluster environment: {CLUSTER_PYTHON} is not there"),
    pytest.mark.timeout(600),
]
SHARDS = 4
PASSED_ON = {f"spark.executorEnv.{name}": os.environ[name] for name in (UNSANDBOXED_OK,) if name in os.environ}
PATIENCE_SECONDS = 240.0


@dataclass(frozen=True)
class Emr:
    """A cluster of two nodes, and what stands in the source bucket as Airflow's workers would have split it."""

    cloud: LocalCloud
    cluster_id: str
    settings: StoreSettings
    expected: dict[int, Manifest]

    def ingest(self, lake: str, **asked: Any) -> stages.OpenRun:
        return _ingested(self.settings, lake, where="cluster", **asked)

    def start(self, opened: stages.OpenRun) -> str:
        """Add the step as the DAG does; give its id."""
        size = clusters.node_size(client("ec2", self.cloud.endpoint), opened.run.asked.split_type)
        step = spark_step(
            f"split_on_cluster {opened.run.run}",
            code=ship_code(opened.lake),
            arguments=("split_on_cluster", f"{opened.run.folder}/spec.json"),
            workers=2,
            settings=whole_nodes(size, 2) | PASSED_ON,
        )
        emr = client("emr", self.cloud.endpoint)
        return str(emr.add_job_flow_steps(JobFlowId=self.cluster_id, Steps=[step])["StepIds"][0])

    def complete(self, step_id: str) -> None:
        emr = client("emr", self.cloud.endpoint)
        state, why = wait_for(
            lambda: found if (found := clusters.step_status(emr, self.cluster_id, step_id))[0] in ENDED else None,
            f"the end of {step_id}",
        )
        assert state == "COMPLETED", why

    def log(self, step_id: str) -> str:
        """Read what Spark's driver said."""
        key = f"emr/{self.cluster_id}/steps/{step_id}/stderr.gz"
        return gzip.decompress(Store("s3://shardmill-logs", self.settings).get(key)).decode()

    def cutting(self) -> list[tuple[int, int]]:
        """Give the executors (the pid of the JVM) that cut a video right now, each with its Python worker's pid."""
        found = []
        for jvm in _executors(self.cloud.pid):
            for worker in _workers(jvm):
                if any(info.parent == worker for info in process_tree(worker)):
                    found.append((jvm, worker))
        return found


ENDED = ("COMPLETED", "FAILED", "CANCELLED", "INTERRUPTED")


def wait_for(look: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := look()) is None:
        assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS} s for {what}"
        time.sleep(0.05)
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def _executors(pid: int) -> list[int]:
    return [info.pid for info in process_tree(pid) if "CoarseGrainedExecutorBackend" in _command(info.pid)]


def _workers(jvm: int) -> list[int]:
    """Give the forks of an executor's Python daemon, one for each task that runs."""
    daemons = {info.pid for info in process_tree(jvm) if info.parent == jvm and "pyspark.daemon" in _command(info.pid)}
    return [info.pid for info in process_tree(jvm) if info.parent in daemons]


def _ingested(settings: StoreSettings, lake: str, **asked: Any) -> stages.OpenRun:
    spec = VideoPipelineSpec.model_validate(
        {"source": "s3://shardmill-source/small", "lake": lake, "width": 64, "height": 32, "max_reject_share": 0.5}
        | asked
    )
    planned = plan_run(spec, "run", Access(settings))
    opened = stages.open_run(planned.spec_uri, lambda connection: Access(settings))
    stages.ingest(opened, opened.plan.numbers, lambda line: None)
    return opened


def manifests_of(opened: stages.OpenRun) -> dict[int, Manifest]:
    """Read the manifest of each shard's clips, and see that there is no other one."""
    asked = opened.run.asked
    listed = [item.key for item in opened.lake.list(f"clips/{asked.dataset}/{asked.split_recipe.hash}/_manifests")]
    assert len(listed) == SHARDS, listed
    found = {
        shard: commits.latest_revision(opened.lake, "clips", asked.dataset, asked.split_recipe.hash, shard)
        for shard in range(SHARDS)
    }
    return {shard: revision.manifest for shard, revision in found.items() if revision is not None}


def objects_below(lake: Store, opened: stages.OpenRun) -> dict[str, int]:
    folder = f"clips/{opened.run.asked.dataset}/{opened.run.asked.split_recipe.hash}"
    return {item.key: item.size for item in lake.list(folder)}


@pytest.fixture(scope="module")
def emr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emr]:
    folder = tmp_path_factory.mktemp("split")
    with pytest.MonkeyPatch.context() as patch, local_cloud(folder / "state") as cloud:
        for variable in (SOURCES, LAKES):
            patch.setenv(variable, "s3://")
        settings = StoreSettings.from_environment(cloud.environment())
        make_sample(folder / "sample", videos=16, shards=SHARDS, seconds=(3, 4))
        source = Store("s3://shardmill-source/small", settings)
        for path in (folder / "sample").glob("*.tar"):
            source.put(path.name, path)
        cluster_id = _bring_up(cloud)
        workers = _ingested(settings, "s3://shardmill-lake/workers")
        stages.split(workers, workers.plan.numbers, lambda line: None)
        yield Emr(cloud, cluster_id, settings, manifests_of(workers))


def _bring_up(cloud: LocalCloud) -> str:
    spec = ClusterSpec(
        name="shardmill-run:split",
        run="run",
        work="split",
        image_id=clusters.newest_image(client("ec2", cloud.endpoint)),
        core_type="m5.2xlarge",
        log_uri="s3://shardmill-logs/emr",
        deadline="2026-11-21T00:00:00+00:00",
    )
    emr = client("emr", cloud.endpoint)
    return str(emr.run_job_flow(**cluster_request(spec))["JobFlowId"])


def check_as_the_workers_did(emr: Emr, opened: stages.OpenRun) -> None:
    found = manifests_of(opened)
    for shard, expected in emr.expected.items():
        assert [part.name for part in found[shard].parts] == [part.name for part in expected.parts]
        assert found[shard].videos == expected.videos
        assert found[shard].rejects == expected.rejects
        assert found[shard].revision == 0
    workers = Store("s3://shardmill-lake/workers", emr.settings)
    assert objects_below(opened.lake, opened).keys() == objects_below(workers, opened).keys(), "nothing is doubled"
    assert load(opened.lake, "run", RESULT, SplitResult).shards == tuple(range(SHARDS))


def check_gone(processes: set[ProcessInfo]) -> None:
    """See that what was killed left no process that goes on."""

    def lives(info: ProcessInfo) -> bool:
        found = read_process(info.pid)
        return found is not None and found.started == info.started

    wait_for(lambda: None if any(map(lives, processes)) else True, "the end of what was killed")


def test_a_cluster_makes_the_very_objects_that_the_workers_make_and_only_once(emr: Emr) -> None:
    opened = emr.ingest("s3://shardmill-lake/plain")
    emr.complete(emr.start(opened))
    check_as_the_workers_did(emr, opened)
    before = {item.key: item.version for folder in ("clips", "runs") for item in opened.lake.list(folder)}
    emr.complete(emr.start(opened))
    assert {item.key: item.version for folder in ("clips", "runs") for item in opened.lake.list(folder)} == before


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["executor", "python"])
def test_what_is_killed_while_it_cuts_is_done_elsewhere_and_nothing_is_lost_or_doubled(emr: Emr, victim: str) -> None:
    opened = emr.ingest(f"s3://shardmill-lake/killed-{victim}")
    step = emr.start(opened)
    jvm, worker = wait_for(lambda: next(iter(emr.cutting()), None), "a video that is cut")
    left = process_tree(worker)
    os.kill(jvm if victim == "executor" else worker, signal.SIGKILL)
    emr.complete(step)
    assert f"Lost {'executor' if victim == 'executor' else 'task'}" in emr.log(step), "the kill came too late"
    check_as_the_workers_did(emr, opened)
    check_gone(left)


@pytest.mark.slow
def test_a_task_that_hangs_is_overtaken_by_its_copy_on_the_other_node(emr: Emr) -> None:
    opened = emr.ingest("s3://shardmill-lake/hanging")
    step = emr.start(opened)
    _, worker = wait_for(lambda: next(iter(emr.cutting()), None), "a video that is cut")
    hanging = process_tree(worker)
    os.kill(worker, signal.SIGSTOP)
    emr.complete(step)
    check_as_the_workers_did(emr, opened)
    check_gone(hanging)
