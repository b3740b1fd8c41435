"""The driver of a barrier training: attempts, their end, and the slots, with Spark played by a fake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from adapters.barrier_lab import SEAMS, Lab
from py4j.protocol import Py4JJavaError

from shardmill.adapters.barrier_training import TooFewSlotsError, TrainingFailedError, driver
from shardmill.adapters.barrier_training.job import TrainingJob
from shardmill.adapters.barrier_training.reporting import PROGRESS_KEY, ProgressReader, Telling
from shardmill.adapters.barrier_training.watch import Watch
from shardmill.adapters.checkpoints import Checkpoints
from shardmill.adapters.store import Store
from shardmill.specs.checkpoint import Checkpoint


class SparkError(Py4JJavaError):
    """A job that Spark aborted."""

    def __init__(self) -> None:
        Exception.__init__(self)
        self.java_exception = SimpleNamespace(getMessage=lambda: "Job aborted\nat org.apache")

    def __str__(self) -> str:
        return "Job aborted"


@dataclass
class FakeSpark:
    """Lets every attempt do what it is told."""

    act: Callable[[TrainingJob], Any]
    attempts: int = 0

    def run(self, context: Any, job: TrainingJob, seams: Any, say: Any) -> Any:
        self.attempts += 1
        return self.act(job)


@pytest.fixture
def train(lake: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, FakeSpark, list[str]]]:
    def start(act: Callable[[TrainingJob], Any]) -> tuple[Any, FakeSpark, list[str]]:
        spark, said = FakeSpark(act), []
        monkeypatch.setattr(driver, "_run", spark.run)
        monkeypatch.setattr(driver, "_await_slots", lambda context, ranks: None)
        try:
            found = driver.train(None, Lab(lake, (8, 8)).job(), SEAMS, said.append)
        except (TrainingFailedError, FloatingPointError) as error:
            found = error
        return found, spark, said

    return start


def fail(lake: Store, job: TrainingJob, error: Exception, rank: int = 1, **how: bool) -> None:
    watch = Watch(lake, job.attempt, rank, 300)
    watch.say(f"the last line of {type(error).__name__}")
    watch.fail(error, **{"is_final": False, "is_cause": True, **how})
    watch.close()


def save(lake: Store, job: TrainingJob, examples: int) -> None:
    checkpoint = Checkpoint(
        inputs=job.inputs,
        seed=1,
        epoch=0,
        positions=(1, 1),
        steps=(1, 1),
        examples=examples,
        epoch_losses=((1.0, 1), (1.0, 1)),
        arrays=(),
        history=(),
        seconds=1.0,
    )
    Checkpoints(lake, job.inputs).put(checkpoint)


def test_attempts_without_a_new_checkpoint_are_bounded_and_the_last_lines_are_told(lake: Store, train: Any) -> None:
    def act(job: TrainingJob) -> None:
        fail(lake, job, OSError("no route to host"), rank=1)
        fail(lake, job, ConnectionError("rank 1 closed its connection"), rank=0, is_cause=False)
        raise SparkError

    found, spark, said = train(act)
    assert spark.attempts == driver.ATTEMPTS
    assert isinstance(found, TrainingFailedError)
    assert "rank 1: OSError: no route to host" in str(found)
    assert "the last line of OSError" in str(found)
    assert sum("an attempt ended" in line for line in said) == driver.ATTEMPTS - 1


def test_an_attempt_that_got_farther_gives_new_ones_which_go_on_from_there(lake: Store, train: Any) -> None:
    resumed: list[int] = []

    def act(job: TrainingJob) -> str:
        resumed.append(job.resume.examples if job.resume else 0)
        if len(resumed) == 8:
            return "trained"
        if len(resumed) in (3, 6):
            save(lake, job, 100 * len(resumed))
        raise SparkError

    found, _, said = train(act)
    assert found == "trained"
    assert resumed == [0, 0, 0, 300, 300, 300, 600, 600]
    assert "an attempt ended: Job aborted" in said
    assert "training goes on with 2 workers from a checkpoint: epoch 0 done, 600 examples seen" in said


@pytest.mark.parametrize(
    ("error", "kind"), [(FloatingPointError("take a learning_rate below 1"), FloatingPointError),
                        (ValueError("part-1 holds other labels"), TrainingFailedError)],
)  # fmt: skip
def test_what_would_come_again_ends_it_at_once(lake: Store, train: Any, error: Exception, kind: type) -> None:
    def act(job: TrainingJob) -> None:
        fail(lake, job, error, is_final=True)
        raise SparkError

    found, spark, _ = train(act)
    assert isinstance(found, kind)
    assert str(error) in str(found)
    assert spark.attempts == 1


def test_failures_of_another_attempt_do_not_count(lake: Store, train: Any) -> None:
    fail(lake, Lab(lake, (8, 8)).job(), ValueError("of an attempt long ago"), is_final=True)

    def act(job: TrainingJob) -> None:
        raise SparkError

    found, spark, _ = train(act)
    assert spark.attempts == driver.ATTEMPTS
    assert "Job aborted" in str(found)


def test_each_attempt_has_its_own_token(train: Any) -> None:
    tokens: list[bytes] = []

    def act(job: TrainingJob) -> None:
        tokens.append(job.token)
        raise SparkError

    train(act)
    assert len(set(tokens)) == driver.ATTEMPTS
    assert all(len(token) == 32 for token in tokens)


class FakeContext:
    """What is asked of a Spark context about its slots."""

    def __init__(self, slots: int, master: str = "spark://127.0.0.1:7077", **conf: str) -> None:
        profiles = SimpleNamespace(defaultResourceProfile=lambda: None)
        scala = SimpleNamespace(maxNumConcurrentTasks=lambda _: slots, resourceProfileManager=lambda: profiles)
        self._jsc = SimpleNamespace(sc=lambda: scala)
        self.master, self.defaultParallelism = master, slots
        self._conf = {f"spark.{name.replace('_', '.')}": value for name, value in conf.items()}

    def getConf(self) -> Any:  # noqa: N802
        return SimpleNamespace(get=lambda name, default=None: self._conf.get(name, default))


@pytest.mark.parametrize(
    "context",
    [
        FakeContext(2, "local[2]"),
        FakeContext(0, executor_instances="2", executor_cores="4", task_cpus="4"),
        FakeContext(1, cores_max="2"),
    ],
)
def test_more_workers_than_there_will_ever_be_slots_are_refused_at_once(context: FakeContext) -> None:
    with pytest.raises(TooFewSlotsError, match="workers: 3 train at the same time, and Spark has 2 slots"):
        driver._await_slots(context, 3)  # type: ignore[arg-type]


def test_executors_that_are_late_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    context, waited = FakeContext(1, executor_instances="2", executor_cores="1"), []
    monkeypatch.setattr(driver.time, "sleep", waited.append)
    monkeypatch.setattr(driver, "_slots", lambda _: 1 + len(waited))
    driver._await_slots(context, 2)  # type: ignore[arg-type]
    assert len(waited) == 1


def test_progress_that_cannot_be_read_is_said_and_ends_no_training(lake: Store) -> None:
    said: list[str] = []
    lake.put(PROGRESS_KEY, b"damaged")
    with driver._progress(Lab(lake, (8, 8)).job(), said.append):
        pass
    assert len(said) == 1
    assert said[0].startswith("progress cannot be read: ")


def test_lines_are_read_once_and_of_one_attempt(lake: Store) -> None:
    telling, reader = (
        Telling(lake, "first", "inputs", SimpleNamespace(add=lambda done: None)),
        ProgressReader(lake, "first"),
    )
    assert reader.new_lines() == ()
    telling.say("one")
    telling.say("two")
    assert reader.new_lines() == ("one", "two")
    assert reader.new_lines() == ()
    for number in range(500):
        telling.say(str(number))
    assert reader.new_lines()[-1] == "499"
    assert ProgressReader(lake, "second").new_lines() == ()
