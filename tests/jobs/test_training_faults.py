"""Faults while workers train: what is killed, stopped or broken, and how the training ends all the same."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from jobs.spark_lab import WAIT_SECONDS, SparkLab, descendants, end, spark_variables
from jobs.training_runs import make_run, records_of, start_jobs

from shardmill.adapters.model_store import find_model
from shardmill.adapters.store import MissingObjectError, Store, read_sealed
from shardmill.specs.records import ModelManifest, model_inputs
from shardmill.specs.run import RunSpec
from shardmill.specs.training_run import TrainingHistory

SAVED_OFTEN = 1e-6


def epochs_done(run: RunSpec) -> int:
    try:
        return read_sealed(Store(run.folder), "history.json", TrainingHistory).epochs[-1].epoch
    except MissingObjectError:
        return 0


def wait_for(what: Callable[[], Any], seconds: float = 240) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)
    return found


def workers_of(pid: int) -> list[psutil.Process]:
    """Python processes that run tasks: children of Spark's daemon."""
    found = [process for process in descendants(pid) if "pyspark.daemon" in " ".join(_command(process))]
    return [process for process in found if any(process.ppid() == other.pid for other in found)]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def model_of(run: RunSpec) -> ModelManifest:
    found = find_model(Store(run.folder), model_inputs(run.asked.training, records_of(run)))
    assert found is not None
    return found


def check_whole(run: RunSpec, gap: float = 1.0) -> None:
    """Every epoch was trained once, and the model is as good as an undisturbed one's, whose GAP it is."""
    history = model_of(run).history
    assert [done.epoch for done in history] == list(range(run.asked.epochs + 1))
    assert model_of(run).train_records == 60
    assert history[-1].validation_gap == pytest.approx(gap, abs=0.02)


def disturb(run: RunSpec, pid: int, after: int, how: signal.Signals) -> Future[None]:
    """Send a signal to a worker once some epochs are done; the result says whether that was done."""

    def work() -> None:
        wait_for(lambda: epochs_done(run) >= after)
        workers_of(pid)[0].send_signal(how)

    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(work)
    finally:
        pool.shutdown(wait=False)


def test_a_worker_that_is_killed_costs_no_more_than_what_followed_the_last_checkpoint(
    tmp_path: Path, spark_lab: SparkLab
) -> None:
    run = make_run(tmp_path, epochs=10, checkpoint_minutes=SAVED_OFTEN, trainer="local_sgd", average_every=2)
    disturbed = disturb(run, spark_lab.pid, 1, signal.SIGKILL)
    status, output = spark_lab.run(run.folder, "train")
    assert status == 0, output[-3000:]
    disturbed.result(timeout=60)
    assert output.count("an attempt ended") == 1, output[-3000:]
    assert "training goes on with 2 workers from a checkpoint" in output
    check_whole(run)


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["single", "allreduce", "one_shot_average"])
def test_so_it_is_with_every_trainer(tmp_path: Path, spark_lab: SparkLab, trainer: str) -> None:
    run = make_run(tmp_path, epochs=10, checkpoint_minutes=SAVED_OFTEN, trainer=trainer)
    disturbed = disturb(run, spark_lab.pid, 1, signal.SIGKILL)
    status, output = spark_lab.run(run.folder, "train")
    assert status == 0, output[-3000:]
    disturbed.result(timeout=60)
    assert "from a checkpoint" in output
    undisturbed = make_run(tmp_path, "run-2", epochs=10, trainer=trainer)
    assert spark_lab.run(undisturbed.folder, "train")[0] == 0
    gap = model_of(undisturbed).history[-1].validation_gap
    assert gap > 0.85  # the mean of workers that never met is not as good as the others
    check_whole(run, gap)


@pytest.mark.slow
def test_a_worker_that_stops_is_missed_in_time_and_done_without(tmp_path: Path, spark_lab: SparkLab) -> None:
    run = make_run(tmp_path, epochs=10, checkpoint_minutes=SAVED_OFTEN, stall_seconds=10)
    disturbed = disturb(run, spark_lab.pid, 1, signal.SIGSTOP)
    status, output = spark_lab.run(run.folder, "train")
    assert status == 0, output[-3000:]
    disturbed.result(timeout=60)
    assert "was silent for 10 s" in output
    stacks = [info.key for info in Store(run.folder).list("training/stacks")]
    assert any(b"_exchange" in Store(run.folder).get(key) for key in stacks)
    check_whole(run)


@pytest.mark.slow
def test_an_executor_that_is_killed_is_replaced_and_training_goes_on(tmp_path: Path) -> None:
    run = make_run(tmp_path, epochs=10, checkpoint_minutes=SAVED_OFTEN)
    process = start_jobs(run, spark_variables("local-cluster[2,1,1024]"), "train")

    def kill() -> None:
        wait_for(lambda: epochs_done(run) >= 1)
        executors = [each for each in descendants(process.pid) if "CoarseGrainedExecutor" in " ".join(_command(each))]
        executors[0].kill()

    threading.Thread(target=kill, daemon=True).start()
    try:
        output, _ = process.communicate(timeout=WAIT_SECONDS)
    finally:
        end(process, descendants(process.pid))
    assert process.returncode == 0, output[-3000:]
    assert "training goes on with 2 workers from a checkpoint" in output
    check_whole(run)


@pytest.mark.slow
def test_the_driver_that_is_killed_is_followed_by_one_that_goes_on(tmp_path: Path) -> None:
    run = make_run(tmp_path, epochs=10, checkpoint_minutes=SAVED_OFTEN)
    process = start_jobs(run, spark_variables(), "train")
    members = descendants(process.pid)
    try:
        reading = threading.Thread(target=process.communicate, daemon=True)
        reading.start()
        wait_for(lambda: epochs_done(run) >= 2)
        members = descendants(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        _, left = psutil.wait_procs(members, timeout=60)
        assert not left, [member.cmdline() for member in left]
        reading.join()
    finally:
        end(process, members)
    assert not list(Store(run.folder).list("model"))
    again = start_jobs(run, spark_variables(), "train")
    try:
        output, _ = again.communicate(timeout=WAIT_SECONDS)
    finally:
        end(again, descendants(again.pid))
    assert "training goes on with 2 workers from a checkpoint" in output, output[-3000:]
    check_whole(run)


def test_a_loss_that_is_no_number_ends_it_at_once_and_names_the_learning_rate(
    tmp_path: Path, spark_lab: SparkLab
) -> None:
    run = make_run(tmp_path, model="jobs.exploding_model:build")
    status, output = spark_lab.run(run.folder, "train")
    assert status != 0
    assert output.count("training begins") == 1, output[-3000:]
    assert "an attempt ended" not in output
    assert "Error: the loss is nan" in output
    assert "take a learning_rate below" in output


@pytest.mark.slow
def test_elephas_ends_clearly_when_its_server_is_killed(tmp_path: Path) -> None:
    run = make_run(tmp_path, trainer="elephas", mode="asynchronous", frequency="batch", epochs=1000)
    process = start_jobs(run, spark_variables(), "train")
    members = descendants(process.pid)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "Distribute load" in line:
                break
        members = descendants(process.pid)
        (server,) = [each for each in members if each.ppid() == process.pid and "java" not in each.name()]
        server.kill()
        output, _ = process.communicate(timeout=WAIT_SECONDS)
        assert process.returncode != 0
        assert "parameter server ended before the training did" in output, output[-3000:]
    finally:
        end(process, members)
