"""The driver's side: slots, attempts, and the lines of progress."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from py4j.protocol import Py4JJavaError
from pyspark import SparkContext

from shardmill.adapters.barrier_training.job import TrainingJob
from shardmill.adapters.barrier_training.reporting import ProgressReader
from shardmill.adapters.barrier_training.worker import BarrierTask, Seams
from shardmill.adapters.store import Store, StoreError, read_sealed
from shardmill.specs.checkpoint import Checkpoint
from shardmill.specs.training_run import RankFailure, TrainedModel

SETTINGS = {
    # Attempts are ours: each goes on from the last checkpoint, with a new token, and knows why the one before ended.
    "spark.task.maxFailures": "1",
    "spark.stage.maxConsecutiveAttempts": "1",
    "spark.barrier.sync.timeout": "600",
    "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "2s",
    "spark.scheduler.barrier.maxConcurrentTasksCheck.maxFailures": "60",
}
"""What the Spark context needs."""
ATTEMPTS = 4
"""In a row that end without a new checkpoint."""
SLOT_SECONDS = 120.0
"""So long the driver waits for executors, which come one after another, or come back."""
POLL_SECONDS = 1.0
Say = Callable[[str], None]


class TrainingFailedError(RuntimeError):
    """A training ended without a model; names the worker that was the cause, with its last lines."""


class TooFewSlotsError(ValueError):
    """There are more workers than Spark can run at once."""


def train(context: SparkContext, job: TrainingJob, seams: Seams, say: Say) -> TrainedModel:
    """Train on a barrier stage of long-lived workers, from the last checkpoint on, and again from there if it fails.

    Args:
        context: with SETTINGS.
        say: takes a line of progress.

    Raises:
        TooFewSlotsError: before anything starts.
        FloatingPointError: the training diverged.
        TrainingFailedError: for what another attempt would meet again, or after four attempts without a checkpoint.
    """
    store = Store(job.folder)
    checkpoints = seams.checkpoints(store, job.inputs)
    checkpoints.remove_orphans()
    left, last = ATTEMPTS, checkpoints.latest(say)
    while True:
        _await_slots(context, job.spec.ranks)
        attempt = secrets.token_hex(4)
        say(_beginning(job, last))
        running = replace(job, attempt=attempt, token=secrets.token_bytes(32), resume=last)
        try:
            return _run(context, running, seams, say)
        except Py4JJavaError as error:
            failure = _cause(store, running)
            told = _told(failure, error)
        # Not from Spark's error: it repeats the workers' tracebacks, which its log shows already.
        _raise_if_final(failure, told)
        found = checkpoints.latest(say)
        left, last = (ATTEMPTS if _is_farther(found, last) else left - 1), found
        if not left:
            raise TrainingFailedError(f"{ATTEMPTS} attempts ended without a new checkpoint; the last: {told}")
        say(f"an attempt ended: {told}")


def _run(context: SparkContext, job: TrainingJob, seams: Seams, say: Say) -> TrainedModel:
    with _progress(job, say):
        rows = context.parallelize(range(job.spec.ranks), job.spec.ranks)
        results = rows.barrier().mapPartitions(BarrierTask(job, seams)).collect()
    return TrainedModel.model_validate_json(next(result for result in results if result))


@contextmanager
def _progress(job: TrainingJob, say: Say) -> Iterator[None]:
    reader, ended = ProgressReader(Store(job.folder), job.attempt), threading.Event()

    def tell() -> None:
        # A training does not fail by what only looks on.
        try:
            for line in reader.new_lines():
                say(line)
        except StoreError as error:
            say(f"progress cannot be read: {error}")

    def follow() -> None:
        while not ended.wait(POLL_SECONDS):
            tell()

    thread = threading.Thread(target=follow, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        tell()


def _beginning(job: TrainingJob, last: Checkpoint | None) -> str:
    workers = f"{job.spec.ranks} worker{'s' if job.spec.ranks > 1 else ''}"
    if last is None:
        return f"training begins on {workers} with {job.records} records"
    return f"training goes on with {workers} from a checkpoint: epoch {last.epoch} done, {last.examples} examples seen"


def _is_farther(found: Checkpoint | None, before: Checkpoint | None) -> bool:
    return found is not None and (before is None or found.examples > before.examples or found.epoch > before.epoch)


def _cause(store: Store, job: TrainingJob) -> RankFailure | None:
    """Give the failure of the worker that failed by itself, else that of one that lost another."""
    failures = []
    for info in store.list("training/failures"):
        if info.key.rpartition("/")[2].startswith(f"{job.attempt}-"):
            failures.append(read_sealed(store, info.key, RankFailure))
    return min(failures, key=lambda failure: (not failure.is_cause, failure.rank), default=None)


def _raise_if_final(failure: RankFailure | None, told: str) -> None:
    if failure is None or not failure.is_final:
        return
    if failure.error == FloatingPointError.__name__:
        raise FloatingPointError(failure.message)
    raise TrainingFailedError(told)


def _told(failure: RankFailure | None, error: Py4JJavaError) -> str:
    if failure is None:
        lines = str(error.java_exception.getMessage()).strip().splitlines()
        return lines[0] if lines else "Spark gives no reason"
    log = "".join(f"\n    {line}" for line in failure.log[-10:])
    return f"rank {failure.rank}: {failure.error}: {failure.message}; its last lines:{log}"


def _await_slots(context: SparkContext, ranks: int) -> None:
    deadline = time.monotonic() + SLOT_SECONDS
    while (slots := _slots(context)) < ranks:
        most = _most_slots(context)
        if time.monotonic() > deadline or (most is not None and most < ranks):
            raise TooFewSlotsError(
                f"workers: {ranks} train at the same time, and Spark has {max(slots, most or 0)} slots (executors × "
                "their cores ÷ spark.task.cpus): lower workers, or take more or larger nodes"
            )
        time.sleep(POLL_SECONDS)


def _slots(context: SparkContext) -> int:
    # What Spark itself compares a barrier stage with; it has no face in Python.
    scala = context._jsc.sc()
    return int(scala.maxNumConcurrentTasks(scala.resourceProfileManager().defaultResourceProfile()))


def _most_slots(context: SparkContext) -> int | None:
    """Give how many slots there will be once all executors are there; None where that is not known."""
    conf = context.getConf()
    if str(context.master).startswith("local["):
        return context.defaultParallelism
    each = int(conf.get("spark.task.cpus", "1") or "1")
    if most := conf.get("spark.cores.max"):  # of Spark standalone
        return int(most) // each
    executors, cores = conf.get("spark.executor.instances"), conf.get("spark.executor.cores")
    return None if executors is None or cores is None else int(executors) * (int(cores) // each)
