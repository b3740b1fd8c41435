"""The loop of the workers that train together: real rings and checkpoints, a small model, no Spark."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from adapters.barrier_lab import SEAMS, Lab, LinearStep, join

from shardmill.adapters.barrier_training import Meeting, TrainingJob, worker
from shardmill.adapters.barrier_training.watch import Watch
from shardmill.adapters.ring import Ring
from shardmill.adapters.ring_wire import LostRankError
from shardmill.adapters.store import Store, read_sealed
from shardmill.specs.record_rejects import RecordReject, RejectTally
from shardmill.specs.training_run import Progress, RankFailure, TrainedModel, TrainingHistory

TRAINERS = ("local_sgd", "allreduce", "one_shot_average")


class KilledError(RuntimeError):
    """What stands for the end of a worker's process."""


def trained(results: list[Any]) -> TrainedModel:
    for result in results:
        if isinstance(result, BaseException):
            raise result
    assert not any(results[1:])
    return TrainedModel.model_validate_json(results[0])


def weights_of(lab: Lab) -> list[np.ndarray]:
    return [lab.steps[rank].weights() for rank in range(len(lab.shares))]


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("shares", [(16, 16), (17, 3, 0)], ids=["equal", "unequal"])
def test_every_record_is_used_and_all_workers_end_with_the_same_model(
    lake: Store, trainer: str, shares: tuple[int, ...]
) -> None:
    lab = Lab(lake, shares)
    found = trained(lab.run(lab.job(trainer=trainer, average_every=2)))
    assert (found.records, found.examples) == (sum(shares), 3 * sum(shares))
    weights = weights_of(lab)
    assert all(np.array_equal(weights[0], other) for other in weights)
    assert [done.epoch for done in found.history] == [0, 1, 2, 3]
    assert found.history[-1].validation_loss < found.history[0].validation_loss
    assert len(found.history[1].worker_losses) == sum(count > 0 for count in shares)


def test_two_workers_do_by_allreduce_what_one_does_with_batches_of_twice_the_size(lake: Store) -> None:
    both, one = Lab(lake, (12, 12)), LinearStep(1)
    trained(both.run(both.job(trainer="allreduce", epochs=1)))
    job = both.job(trainer="allreduce", epochs=1)
    feeds = [both._feed(job, job.train[rank], _plan(rank)).epoch(0) for rank in (0, 1)]
    for first, second in zip(*feeds, strict=True):
        joined = type(first)(
            *(np.concatenate([getattr(first, name), getattr(second, name)]) for name in ("frames", "truth", "weights")),
            8,
        )
        one.step(joined, job.spec.learning_rate)
    assert weights_of(both)[0] == pytest.approx(one.weights(), abs=2e-5)


def _plan(rank: int) -> Any:
    from shardmill.adapters.barrier_training import FeedPlan

    return FeedPlan(rank, "frame", shuffle=True)


def test_local_sgd_averages_moments_too_and_weighs_by_examples(lake: Store) -> None:
    lab = Lab(lake, (8, 4))
    trained(lab.run(lab.job(trainer="local_sgd", average_every=2, epochs=1)))
    job, alone = lab.job(), [LinearStep(1), LinearStep(1)]
    for rank, step in enumerate(alone):
        for batch in lab._feed(job, job.train[rank], _plan(rank)).epoch(0):
            step.step(batch, job.spec.learning_rate)
    for what in ("weights", "moments"):
        expected = (2 * getattr(alone[0], what)() + getattr(alone[1], what)()) / 3
        assert getattr(lab.steps[0], what)() == pytest.approx(expected, abs=1e-6), what


def killer(rank: int, epoch: int, number: int) -> Callable[..., None]:
    def before(*found: int) -> None:
        if found == (rank, epoch, number):
            raise KilledError("killed")

    return before


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("killed", [(1, 0, 2), (0, 1, 3), (2, 2, 0)])
def test_a_training_that_was_killed_goes_on_and_ends_as_an_undisturbed_one(
    tmp_path: Any, trainer: str, killed: tuple[int, int, int]
) -> None:
    asked = {"trainer": trainer, "average_every": 1, "checkpoint_minutes": 1e-9}
    undisturbed, disturbed = (Lab(Store(f"file://{tmp_path}/{name}", create=True), (16, 13, 9)) for name in "ab")
    expected = trained(undisturbed.run(undisturbed.job(**asked)))

    disturbed.before = killer(*killed)
    results = disturbed.run(disturbed.job(**asked))
    assert isinstance(results[killed[0]], KilledError)
    assert all(isinstance(result, LostRankError) for rank, result in enumerate(results) if rank != killed[0])

    disturbed.before = lambda *found: None
    again = disturbed.job(**asked)
    if not (trainer == "one_shot_average" and killed[1] == 0):  # its first moment to save is the first epoch's end
        again = disturbed.resumed(again)
        assert again.resume.examples > 0
    found = trained(disturbed.run(again))
    assert (found.records, found.examples, found.label_counts) == (
        expected.records,
        expected.examples,
        expected.label_counts,
    )
    assert weights_of(disturbed)[0] == pytest.approx(weights_of(undisturbed)[0], abs=1e-6)
    assert [done.loss for done in found.history] == pytest.approx([done.loss for done in expected.history], abs=1e-6)


def test_a_training_that_was_killed_before_it_published_trains_no_more(lake: Store) -> None:
    lab = Lab(lake, (8, 8))
    asked = {"trainer": "local_sgd", "checkpoint_minutes": 1e-9}
    expected = trained(lab.run(lab.job(**asked)))
    weights = weights_of(lab)[0]
    lab.before = lambda *found: pytest.fail("nothing is left to train")
    assert trained(lab.run(lab.resumed(lab.job(**asked)))).history == expected.history
    assert np.array_equal(weights_of(lab)[0], weights)


def test_the_best_weights_are_kept_where_training_ends_early(lake: Store) -> None:
    lab = Lab(lake, (8, 8))
    # So large a step makes it worse from some epoch on.
    found = trained(lab.run(lab.job(early_stopping_epochs=2, epochs=30, learning_rate=1.0)))
    losses = [done.validation_loss for done in found.history]
    best = min(range(1, len(losses)), key=lambda epoch: losses[epoch])
    assert len(losses) - 1 == best + 2 < 30
    history = read_sealed(lake, "history.json", TrainingHistory)
    assert history.epochs == found.history
    frames, truth = zip(*(_video(1_000_000 + 100 * rank + index) for rank in (0, 1) for index in range(9)), strict=True)
    scores = np.clip(lab.steps[0].score(np.stack(frames)).astype(np.float64), 1e-7, 1 - 1e-7)
    loss = -np.where(np.stack(truth) > 0, np.log(scores), np.log(1 - scores)).mean()
    assert loss == pytest.approx(losses[best], abs=1e-4)


def _video(index: int) -> Any:
    from adapters.barrier_lab import video

    return video(index)


def test_a_loss_that_is_no_number_ends_all_and_names_the_learning_rate(lake: Store) -> None:
    lab = Lab(lake, (8, 8))

    def spoil(rank: int, epoch: int, number: int) -> None:
        if (rank, epoch) == (1, 1):
            raise FloatingPointError("the loss is nan after 2 steps: take a learning_rate below 1")

    lab.before = spoil
    results = lab.run(lab.job())
    assert isinstance(results[1], FloatingPointError)
    failure = read_sealed(lake, "training/failures/attempt-00001.json", RankFailure)
    assert (failure.error, failure.is_final, failure.is_cause) == ("FloatingPointError", True, True)
    assert "learning_rate" in failure.message
    other = read_sealed(lake, "training/failures/attempt-00000.json", RankFailure)
    assert (other.error, other.is_final, other.is_cause) == ("LostRankError", False, False)
    assert b"in _exchange" in lake.get("training/stacks/attempt-00000.txt")


def saved_in_the_first_epoch(lab: Lab, **asked: Any) -> TrainingJob:
    """Train until rank 1 is killed before its fourth batch; give the job that goes on from there."""
    asked = {"trainer": "local_sgd", "average_every": 1, "checkpoint_minutes": 1e-9, **asked}
    lab.before = killer(1, 0, 3)
    assert isinstance(lab.run(lab.job(**asked))[1], KilledError)
    lab.before = lambda *found: None
    job = lab.resumed(lab.job(**asked))
    assert job.resume is not None
    assert job.resume.positions[0] > 0
    return job


def test_a_worker_says_that_it_goes_on_while_it_passes_over_what_it_learnt_before(
    lake: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked: list[str] = []
    original = Watch.mark

    def mark(watch: Watch, doing: str) -> None:
        marked.append(doing)
        original(watch, doing)

    lab = Lab(lake, (16, 16))
    job = saved_in_the_first_epoch(lab)
    monkeypatch.setattr(Watch, "mark", mark)
    trained(lab.run(job))
    passed = [line for line in marked if line.startswith("passing over batch")]
    assert job.resume is not None
    assert len(passed) == sum(job.resume.positions) > 0


def test_the_seconds_of_an_epoch_that_was_left_count_too(lake: Store) -> None:
    lab = Lab(lake, (16, 16))
    stop = killer(1, 0, 3)

    def slow(*found: int) -> None:
        time.sleep(0.1)
        stop(*found)

    lab.before = slow
    asked = {"trainer": "local_sgd", "average_every": 1, "checkpoint_minutes": 1e-9, "epochs": 1}
    assert isinstance(lab.run(lab.job(**asked))[1], KilledError)
    lab.before = lambda *found: time.sleep(0.1)
    job = lab.resumed(lab.job(**asked))
    assert job.resume is not None
    saved, position = job.resume.seconds, job.resume.positions[0]
    assert position > 0
    assert saved >= 0.1 * position
    found = trained(lab.run(job))
    assert found.seconds >= saved + 0.1 * (4 - position)
    assert found.history[-1].seconds == pytest.approx(found.seconds - saved, abs=0.01)


def test_workers_are_missed_sooner_only_once_all_have_their_model(lake: Store) -> None:
    heard: dict[int, list[float]] = {0: [], 1: []}

    def join_and_note(meeting: Meeting, listener: Any, token: bytes, silent_seconds: float) -> Ring:
        ring = join(meeting, listener, token, silent_seconds)
        original = ring.gather

        def gather(row: np.ndarray) -> np.ndarray:
            heard[ring.rank].append(ring.silent_seconds)
            return original(row)

        ring.gather = gather
        return ring

    lab = Lab(lake, (8, 8), seams=replace(SEAMS, join=join_and_note))
    trained(lab.run(lab.job(epochs=1, stall_seconds=20)))
    for rank in (0, 1):
        assert heard[rank][0] == 600
        assert set(heard[rank][1:]) == {20}


def test_what_will_never_work_ends_it_with_all_that_is_known_of_it(lake: Store) -> None:
    lab = Lab(lake, (8, 8))

    def spoil(rank: int, epoch: int, number: int) -> None:
        if (rank, epoch) == (1, 1):
            error = NotImplementedError("no such layer")
            error.add_note("take another model")
            raise error

    lab.before = spoil
    assert isinstance(lab.run(lab.job())[1], NotImplementedError)
    failure = read_sealed(lake, "training/failures/attempt-00001.json", RankFailure)
    assert (failure.message, failure.is_final) == ("no such layer\ntake another model", True)


def test_balanced_labels_are_counted_over_all_workers(lake: Store) -> None:
    lab = Lab(lake, (12, 5))
    found = trained(lab.run(lab.job(class_weights="balanced", epochs=1)))
    expected = [max(1.0, (17 - count) / count) for count in found.label_counts]
    assert all(lab.steps[rank].positives == pytest.approx(expected) for rank in (0, 1))


@pytest.mark.parametrize(("limit", "refused"), [(0.25, False), (0.24, True)])
def test_rejects_of_all_workers_together_are_limited(lake: Store, limit: float, refused: bool) -> None:
    lab, reject = Lab(lake, (6, 10)), RecordReject(file="file:///part", offset=7, reason="is damaged", records=4)
    lab.rejects[1] = RejectTally(rejects=(reject,))
    results = lab.run(replace(lab.job(epochs=1), max_reject_share=limit))
    if refused:
        assert "4 of 16 records cannot be used" in str(results[0])
        assert read_sealed(lake, "training/failures/attempt-00000.json", RankFailure).is_final
    else:
        assert trained(results).rejects.rejects == (reject,)


def test_what_two_workers_lost_of_one_cut_file_adds_up(lake: Store) -> None:
    lab = Lab(lake, (6, 10))
    for rank, lost in ((0, 1), (1, 3)):
        reject = RecordReject(file="file:///part", offset=7, reason="is cut", records=lost)
        lab.rejects[rank] = RejectTally(rejects=(reject,))
    results = lab.run(replace(lab.job(epochs=1), max_reject_share=0.24))
    assert "4 of 16 records cannot be used" in str(results[0])


def test_each_worker_makes_its_model_for_its_own_rank(lake: Store) -> None:
    lab = Lab(lake, (8, 8))
    trained(lab.run(lab.job(epochs=1)))
    assert sorted(lab.ranks) == [0, 1]


def test_imports_begin_before_the_workers_have_met(lake: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    lab, prepared = Lab(lake, (8,)), threading.Event()

    class Context:
        """A barrier of one task that opens once the imports have begun."""

        @classmethod
        def get(cls) -> Context:
            return cls()

        def getTaskInfos(self) -> list[SimpleNamespace]:  # noqa: N802  (Spark's name)
            return [SimpleNamespace(address="127.0.0.1:1")]

        def partitionId(self) -> int:  # noqa: N802
            return 0

        def allGather(self, message: str) -> list[str]:  # noqa: N802
            assert prepared.wait(30)
            return [message]

    monkeypatch.setattr(worker, "BarrierTaskContext", Context)
    job = lab.job(epochs=1)
    job = replace(job, tools=replace(job.tools, prepare=prepared.set))
    (result,) = worker.BarrierTask(job, SEAMS)(iter(()))
    assert TrainedModel.model_validate_json(result).records == 8


def test_what_happened_is_told_in_lines_as_it_goes(lake: Store) -> None:
    lab = Lab(lake, (8, 8))
    trained(lab.run(lab.job(epochs=2)))
    told = read_sealed(lake, "training/progress.json", Progress)
    assert told.lines[0] == "2 workers are ready"
    assert [line.split(":")[0] for line in told.lines[1:]] == ["epoch 0/2", "epoch 1/2", "epoch 2/2"]
    assert "examples/s" in told.lines[-1]


HANGING = """
import sys, threading
from shardmill.adapters.barrier_training import watch
from shardmill.adapters.store import Store
watch.LEAST_SECONDS = 0.5
watched = watch.Watch(Store(sys.argv[1]), "attempt", 4, 0.5)
watched.say("the last line")
with watched.elsewhere():
    threading.Event().wait(2.5)  # a wait for others, which has a limit of its own
watched.mark("batch 7 of epoch 3")
print("hangs", flush=True)
threading.Event().wait(60)
"""


def test_a_worker_that_hangs_ends_itself_and_leaves_its_stacks(lake: Store) -> None:
    command = [sys.executable, "-c", HANGING, lake.uri]
    found = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert (found.returncode, found.stdout) == (3, "hangs\n"), found.stderr
    failure = read_sealed(lake, "training/failures/attempt-00004.json", RankFailure)
    assert "stalled" in failure.message
    assert "batch 7 of epoch 3" in failure.message
    assert (failure.is_final, failure.is_cause, failure.log[0]) == (False, True, "the last line")
    assert b"wait" in lake.get("training/stacks/attempt-00004.txt")
