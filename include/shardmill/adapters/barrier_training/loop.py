"""The loop of a worker: steps, exchanges, epochs, early stopping."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import numpy as np

from shardmill.adapters.barrier_training.exchange import Exchanged, exchange
from shardmill.adapters.barrier_training.job import Learner, TrainingJob
from shardmill.adapters.barrier_training.place import Place, merged_rejects
from shardmill.adapters.barrier_training.saving import Saver
from shardmill.adapters.barrier_training.state import (
    RankState,
    set_state_vector,
    state_vector,
    sum_batch,
    sums_of,
    sums_vector,
)
from shardmill.adapters.barrier_training.validation import improves, validate
from shardmill.core.ablations import no_sums
from shardmill.core.label_weights import balanced_weights
from shardmill.core.learning_rates import learning_rate
from shardmill.core.record_rejects import check_record_rejects
from shardmill.core.rules import RULES, Rule, Shared, Vector
from shardmill.specs.records import EpochLoss

PROGRESS_SECONDS = 30.0
"""Within an epoch rank 0 tells so often how far it is."""


class RankLoop:
    """One worker's training, in step with the others'."""

    def __init__(self, job: TrainingJob, learner: Learner, place: Place) -> None:
        """Prepare to train."""
        self._job, self._spec, self._labels = job, job.spec, len(job.vocabulary)
        self._step, self._place, self._saver = learner.step, place, Saver(job, learner.step, place)
        self._ring, self._watch = place.ring, place.watch
        self._rule: Rule = RULES["single" if self._ring.size == 1 else job.spec.trainer](job.spec)
        self.state = RankState(no_sums(self._labels))
        self._all_examples = max(job.records * job.spec.epochs, 1)
        self._rate = job.spec.learning_rate
        self._told = time.monotonic()
        self._is_warm, self._warming, self._clock = False, 0.0, self._told

    def run(self) -> RankState:
        """Train to the end, from the checkpoint that the job names or from the beginning.

        Returns:
            The state; the step holds the weights to publish, the same on every worker.
        """
        if self._job.resume is not None:
            self.state = self._saver.restore(self._job.resume)
        if self._spec.class_weights == "balanced":
            self._weigh_labels()
        if not self.state.history:
            self._tell(EpochLoss(epoch=0, loss=None, **self._validate()))
        while not self._is_over():
            self._epoch()
        if self.state.best_weights is not None:
            self._step.set_weights(self.state.best_weights)
        return self.state

    def _is_over(self) -> bool:
        patience, state = self._spec.early_stopping_epochs, self.state
        late = bool(patience) and state.epoch - state.best_epoch >= patience
        return late or state.epoch >= self._spec.epochs

    def _epoch(self) -> None:
        state = self.state
        seconds, examples, self._clock = state.seconds, state.examples, time.monotonic()
        self._watch.say(f"epoch {state.epoch + 1} begins at batch {state.position}")
        taken = self._steps()
        self._count_seconds()
        done = self._close_epoch(max(state.seconds - seconds, 1e-6), state.examples - examples)
        own = self._look_at(taken)
        measured = self._validate()
        if self._spec.early_stopping_epochs and improves(measured, state.history):
            state.best_epoch, state.best_weights = state.epoch, self._step.weights()
        self._tell(done.model_copy(update=measured))
        if own is not None and not self._is_over():
            set_state_vector(self._step, own)
        if self._saver.is_wanted_by_all():
            self._saver.save(state, is_common=own is None or self._is_over())

    def _count_seconds(self) -> None:
        """Add what has passed since the last call, or since the epoch began, to the state."""
        now = time.monotonic()
        self.state.seconds += max(now - self._clock - self._warming, 0.0)
        self._clock, self._warming = now, 0.0

    def _steps(self) -> Vector | None:
        """Go through the rest of an epoch. Returns what its last exchange gave."""
        state = self.state
        with closing(self._place.train.epoch(state.epoch, skip=state.position, passed=self._pass_over)) as batches:
            batch, since, steps = self._next(batches), 0, 0
            while True:
                gradient = None
                if batch is not None:
                    gradient = self._learn(batch, since)
                    since, steps, batch = since + batch.records, steps + 1, self._next(batches)
                if not self._rule.is_due(steps, batch is not None):
                    continue
                found = self._exchange(gradient, since, batch is not None)
                since = steps = 0
                if not found.active:
                    return found.taken
                if found.is_saved_now:
                    self._count_seconds()
                    self._saver.save(state, is_common=True)

    def _pass_over(self, number: int) -> None:
        # In the thread that reads: until the first batch comes, nothing else says that this worker goes on.
        self._watch.mark(f"passing over batch {number}")

    def _next(self, batches: Any) -> Any:
        self._watch.mark(f"reading batch {self.state.position} of epoch {self.state.epoch + 1}")
        return next(batches, None)

    def _learn(self, batch: Any, since: int) -> Vector | None:
        """Learn from a batch; give its gradient where the rule shares gradients."""
        state, gradient = self.state, None
        self._warm_up(batch)
        self._watch.mark(f"batch {state.position} of epoch {state.epoch + 1}")
        if self._rule.shares is Shared.GRADIENT:
            gradient, loss = self._step.gradient(batch)
        else:
            self._rate = self._rate_at(state.examples + since * self._ring.size)
            loss = self._step.step(batch, self._rate)
        if state.epoch == 0:
            state.sums = sum_batch(state.sums, batch, self._labels)
        state.loss += loss * batch.records
        state.counted += batch.records
        state.position += 1
        return gradient

    def _warm_up(self, batch: Any) -> None:
        """Make the step's graph, which takes seconds that are no training's; they are told apart."""
        if self._is_warm:
            return
        begun = time.monotonic()
        self._step.gradient(batch)
        self._is_warm, self._warming = True, time.monotonic() - begun

    def _rate_at(self, examples: int) -> float:
        return learning_rate(self._spec, examples / self._all_examples)

    def _exchange(self, gradient: Vector | None, since: int, more: bool) -> Exchanged:
        own = self._contribution(gradient)
        with self._watch.elsewhere():
            found = exchange(self._ring, self._rule, own, examples=since, more=more, save=self._saver.is_due())
        if found.taken is not None:
            if self._rule.shares is Shared.GRADIENT:
                self._rate = self._rate_at(self.state.examples)
                self._step.apply(found.taken, self._rate)
            elif not self._rule.keeps_own:
                set_state_vector(self._step, found.taken)
        self.state.examples += found.examples
        if found.active and time.monotonic() - self._told > PROGRESS_SECONDS:
            self._tell_progress()
        return found

    def _contribution(self, gradient: Vector | None) -> Vector | None:
        if self._ring.size == 1 and gradient is None:
            return None
        if self._rule.shares is Shared.GRADIENT:
            return np.zeros(self._step.size, np.float32) if gradient is None else gradient
        return state_vector(self._step)

    def _look_at(self, taken: Vector | None) -> Vector | None:
        """Take the mean for a look, where workers go on with their own. Returns their own."""
        if not self._rule.keeps_own or taken is None:
            return None
        own = state_vector(self._step)
        set_state_vector(self._step, taken)
        return own

    def _close_epoch(self, seconds: float, examples: int) -> EpochLoss:
        state = self.state
        with self._watch.elsewhere():
            rows = self._ring.gather(np.array([state.loss, state.counted]))
            if state.epoch == 0:
                state.sums = sums_of(self._ring.sum(sums_vector(state.sums)), self._labels)
            rejects = merged_rejects(self._place)
        if self._ring.rank == 0:
            check_record_rejects(rejects, self._job.records, self._job.max_reject_share)
        state.epoch, state.position, state.loss, state.counted = state.epoch + 1, 0, 0.0, 0
        if not rows[:, 1].sum():
            raise ValueError("train: expected training records that can be used, found none")
        return EpochLoss(
            epoch=state.epoch,
            loss=float(rows[:, 0].sum() / rows[:, 1].sum()),
            worker_losses=tuple(float(loss / count) for loss, count in rows if count),
            seconds=round(seconds, 3),
            examples_per_second=round(examples / seconds, 1),
            learning_rate=self._rate,
        )

    def _validate(self) -> dict[str, float]:
        return validate(self._place, self._step, self._labels, self._spec.learning_rate)

    def _weigh_labels(self) -> None:
        sums = no_sums(self._labels)
        with closing(self._place.train.epoch(0)) as batches:
            for number, batch in enumerate(batches):
                self._watch.mark(f"counting labels in batch {number}")
                sums = sum_batch(sums, batch, self._labels)
        with self._watch.elsewhere():
            sums = sums_of(self._ring.sum(sums_vector(sums)), self._labels)
        self._step.set_label_weights(balanced_weights(sums.labels, sums.records))

    def _tell(self, done: EpochLoss) -> None:
        self.state.history.append(done)
        if self._place.telling is not None:
            self._place.telling.epoch(self.state.history, self._spec.epochs)
        self._told = time.monotonic()

    def _tell_progress(self) -> None:
        self._told = time.monotonic()
        if self._place.telling is not None:
            state = self.state
            share = state.examples / self._all_examples * self._spec.epochs - state.epoch
            self._place.telling.say(f"epoch {state.epoch + 1}/{self._spec.epochs}: {share:.0%} done")
