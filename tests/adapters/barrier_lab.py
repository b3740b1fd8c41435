"""Workers of a barrier training as threads of one process, with a small model in NumPy instead of TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from shardmill.adapters.barrier_training import FeedPlan, Learner, Meeting, Published, Seams, Tools, TrainingJob
from shardmill.adapters.barrier_training.worker import run_rank
from shardmill.adapters.checkpoints import Checkpoints
from shardmill.adapters.ring import Ring
from shardmill.adapters.ring_wire import Seat, listen
from shardmill.adapters.store import Store
from shardmill.core.worker_shares import PartSlice
from shardmill.specs.record_rejects import RejectTally
from shardmill.specs.records import RecordPart
from shardmill.specs.training import TrainSpec

LABELS = 3
VALUES = 1152
SECONDS = 2


class LinearStep:
    """Logistic regression on a video's mean frame, with Adam."""

    def __init__(self, seed: int) -> None:
        self.size, self.steps = (VALUES + 1) * LABELS, 0
        self._weights = np.random.default_rng(seed).normal(0, 0.01, self.size).astype(np.float32)
        self._moments = np.zeros(2 * self.size, np.float32)
        self.positives = np.ones(LABELS, np.float32)

    def weights(self) -> np.ndarray:
        return self._weights.copy()

    def set_weights(self, flat: np.ndarray) -> None:
        self._weights = flat.copy()

    def moments(self) -> np.ndarray:
        return self._moments.copy()

    def set_moments(self, flat: np.ndarray, steps: int) -> None:
        self._moments, self.steps = flat.copy(), steps

    def set_label_weights(self, weights: np.ndarray) -> None:
        self.positives = weights

    def _inputs(self, frames: np.ndarray) -> np.ndarray:
        means = frames.mean(axis=1, dtype=np.float32) / 128 - 1
        return np.concatenate([means, np.ones((len(means), 1), np.float32)], axis=1)

    def score(self, frames: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-self._inputs(frames) @ self._weights.reshape(-1, LABELS)))

    def gradient(self, batch: Any) -> tuple[np.ndarray, float]:
        scores = np.clip(self.score(batch.frames), 1e-7, 1 - 1e-7)
        if not np.isfinite(scores).all():
            raise FloatingPointError("the loss is nan: take a learning_rate below that")
        each = np.where(batch.truth > 0, np.log(scores), np.log(1 - scores)).mean(axis=1)
        errors = (scores - batch.truth) * batch.weights[:, None] / (batch.weights.sum() * LABELS)
        gradient = self._inputs(batch.frames).T @ errors
        return gradient.ravel().astype(np.float32), float(-(each * batch.weights).sum() / batch.weights.sum())

    def apply(self, gradient: np.ndarray, learning_rate: float) -> None:
        self.steps += 1
        first, second = self._moments[: self.size], self._moments[self.size :]
        first += np.float32(0.1) * (gradient - first)
        second += np.float32(0.001) * (gradient**2 - second)
        scale = learning_rate * np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        self._weights -= np.float32(scale) * first / (np.sqrt(second) + np.float32(1e-7))

    def step(self, batch: Any, learning_rate: float) -> float:
        gradient, loss = self.gradient(batch)
        self.apply(gradient, learning_rate)
        return loss


@dataclass(frozen=True, eq=False)
class FakeBatch:
    frames: np.ndarray
    truth: np.ndarray
    weights: np.ndarray
    records: int


def video(index: int) -> tuple[np.ndarray, np.ndarray]:
    """A video whose labels can be told from its frames."""
    random = np.random.default_rng(index)
    truth = random.integers(0, 2, LABELS).astype(np.float32)
    frames = random.integers(1, 200, (SECONDS, VALUES)).astype(np.uint8)
    for label in range(LABELS):
        frames[:, 300 * label : 300 * label + 200] += np.uint8(50 * truth[label])
    return frames, truth


class FakeFeed:
    """A share's records, in an order drawn by the epoch; ``before`` is called before each batch of training."""

    def __init__(
        self, share: tuple[PartSlice, ...], size: int, plan: FeedPlan, before: Callable[..., None], rejects: RejectTally
    ) -> None:
        self._videos = [int(piece.part.uri) + index for piece in share for index in range(piece.start, piece.stop)]
        self._size, self._plan, self._before = size, plan, before
        self.rejects = rejects

    def epoch(
        self, epoch: int, *, skip: int = 0, passed: Callable[[int], None] = lambda number: None
    ) -> Generator[Any, None, None]:
        order = np.array(self._videos, np.int64)
        if self._plan.shuffle:
            order = np.random.default_rng([epoch, self._plan.rank]).permutation(order)
        for number, start in enumerate(range(0, len(order), self._size)):
            if number < skip:
                passed(number)
                continue
            if self._plan.shuffle:
                self._before(self._plan.rank, epoch, number)
            chosen = [video(int(index)) for index in order[start : start + self._size]]
            count = len(chosen)
            chosen += chosen[-1:] * (self._size - count)
            weights = (np.arange(self._size) < count).astype(np.float32)
            yield FakeBatch(np.stack([f for f, _ in chosen]), np.stack([t for _, t in chosen]), weights, count)


@dataclass
class Events:
    done: list[Any] = field(default_factory=list)

    def add(self, done: Any) -> None:
        self.done.append(done)


@dataclass
class Lab:
    """Trains in threads; what each rank's step holds at the end is kept."""

    store: Store
    shares: tuple[int, ...]
    """Training records of each rank."""
    before: Callable[..., None] = lambda rank, epoch, number: None
    """Called with rank, epoch and number before each batch."""
    steps: dict[int, LinearStep] = field(default_factory=dict)
    rejects: dict[int, RejectTally] = field(default_factory=dict)
    """By rank."""
    ranks: list[int] = field(default_factory=list)
    """For which models were made."""
    seams: Seams = field(default_factory=lambda: SEAMS)

    def job(self, **asked: Any) -> TrainingJob:
        workers = len(self.shares)
        spec = TrainSpec.model_validate(
            {"workers": workers, "batch_size": 4 * workers, "learning_rate": 0.01, "epochs": 3, **asked}
        )
        starts = np.cumsum((0, *self.shares)).tolist()
        return TrainingJob(
            spec=spec,
            inputs="0123456789ab",
            folder=self.store.uri,
            vocabulary=("a", "b", "c"),
            max_frames=SECONDS,
            level="frame",
            train=tuple(self._share(start, count) for start, count in zip(starts, self.shares, strict=False)),
            validation=tuple(self._share(1_000_000 + 100 * rank, 9) for rank in range(len(self.shares))),
            tools=Tools(learner=self._learner, feed=self._feed, events=self._events, prepare=lambda: None),
            attempt="attempt",
            token=b"t" * 32,
        )

    def _share(self, start: int, count: int) -> tuple[PartSlice, ...]:
        return (PartSlice(RecordPart(uri=str(start), sha256="", records=count), 0, count),) if count else ()

    def _learner(self, job: TrainingJob, rank: int) -> Learner:
        self.ranks.append(rank)
        step = LinearStep(job.spec.seed)
        return Learner(step, "frame", lambda sums: Published("model/weights", "0", step.size, ()))

    def _feed(self, job: TrainingJob, share: tuple[PartSlice, ...], plan: FeedPlan) -> FakeFeed:
        rejects = self.rejects.get(plan.rank, RejectTally()) if plan.shuffle else RejectTally()
        return FakeFeed(share, job.spec.worker_batch_size, plan, self.before, rejects)

    @contextmanager
    def _events(self, job: TrainingJob) -> Iterator[Events]:
        yield Events()

    def run(self, job: TrainingJob) -> list[Any]:
        """Give what each rank returned or raised."""
        listeners = [listen("127.0.0.1") for _ in self.shares]
        addresses = tuple(("127.0.0.1", listener.getsockname()[1]) for listener in listeners)

        def one(rank: int) -> Any:
            kept: list[LinearStep] = []

            def learner(job: TrainingJob, rank: int) -> Learner:
                found = self._learner(job, rank)
                kept.append(found.step)
                return found

            own = replace(job, tools=replace(job.tools, learner=learner))
            try:
                return run_rank(own, self.seams, Meeting(rank, addresses), listeners[rank])
            except BaseException as error:  # noqa: BLE001  (it is what the test looks at)
                return error
            finally:
                listeners[rank].close()
                if kept:
                    self.steps[rank] = kept[0]

        with ThreadPoolExecutor(len(self.shares)) as threads:
            return [call.result() for call in [threads.submit(one, rank) for rank in range(len(self.shares))]]

    def resumed(self, job: TrainingJob) -> TrainingJob:
        """Give the job that goes on from the last checkpoint."""
        last = Checkpoints(self.store, job.inputs).latest(print)
        assert last is not None
        return replace(job, resume=last)


def join(meeting: Meeting, listener: Any, token: bytes, silent_seconds: float) -> Ring:
    seat = Seat(meeting.rank, meeting.addresses, token)
    return Ring(seat, listener, join_seconds=30, silent_seconds=silent_seconds)


SEAMS = Seams(listen=listen, join=join, checkpoints=Checkpoints)
