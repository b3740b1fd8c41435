"""Checkpoints from inside: when, what, and how a worker goes on from one."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from shardmill.adapters.barrier_training.job import Step, TrainingJob
from shardmill.adapters.barrier_training.place import Place
from shardmill.adapters.barrier_training.state import RankState, sums_of, sums_vector
from shardmill.core.ablations import no_sums
from shardmill.specs.checkpoint import ArrayFile, Checkpoint

EPOCH_SECONDS = 30.0
"""An epoch's end is a good moment for a checkpoint, but not where the last one is younger."""


class Saver:
    """Saves a training together with the other workers: all of them call it at the same point."""

    def __init__(self, job: TrainingJob, step: Step, place: Place) -> None:
        self._job, self._step, self._place, self._ring = job, step, place, place.ring
        self._labels = len(job.vocabulary)
        self._last = time.monotonic()

    def is_due(self, limit: float = float("inf")) -> bool:
        """Tell whether rank 0's clock says so; the others never do."""
        limit = min(60 * self._job.spec.checkpoint_minutes, limit)
        return self._ring.rank == 0 and time.monotonic() - self._last >= limit

    def is_wanted_by_all(self) -> bool:
        """Ask rank 0, at the end of an epoch."""
        with self._place.watch.elsewhere():
            return bool(self._ring.gather(np.array([self.is_due(EPOCH_SECONDS)], np.float64))[0, 0])

    def save(self, state: RankState, *, is_common: bool) -> None:
        """Save the training as it is.

        Args:
            is_common: all workers hold the same weights and moments, which are written once.
        """
        row = np.array([state.position, self._step.steps, state.loss, state.counted], np.float64)
        with self._place.watch.elsewhere():
            rows = self._ring.gather(row)
            all_sums = sums_vector(state.sums) if state.epoch else self._ring.sum(sums_vector(state.sums))
        arrays: dict[str, Any] = {
            "weights": self._step.weights(),
            "moments": self._step.moments(),
            "sums": all_sums,
            **({} if state.best_weights is None else {"best_weights": state.best_weights}),
        }
        files = self._put_common(arrays) if is_common else self._put_each(arrays)
        if self._ring.rank == 0:
            self._place.checkpoints.put(self._described(state, rows, files))
        self._last = time.monotonic()
        self._place.watch.mark("a checkpoint was saved")

    def _put_common(self, arrays: dict[str, Any]) -> tuple[ArrayFile, ...]:
        return (self._place.checkpoints.put_arrays(arrays),) if self._ring.rank == 0 else ()

    def _put_each(self, arrays: dict[str, Any]) -> tuple[ArrayFile, ...]:
        own = self._place.checkpoints.put_arrays(arrays)
        with self._place.watch.elsewhere():
            digests = self._ring.gather(np.frombuffer(bytes.fromhex(own.sha256), np.uint8).astype(np.float64))
        hashes = [digest.astype(np.uint8).tobytes().hex() for digest in digests]
        return tuple(ArrayFile(key=own.key.replace(own.sha256[:12], sha256[:12]), sha256=sha256) for sha256 in hashes)

    def _described(self, state: RankState, rows: Any, files: tuple[ArrayFile, ...]) -> Checkpoint:
        return Checkpoint(
            inputs=self._job.inputs,
            seed=self._job.spec.seed,
            epoch=state.epoch,
            positions=tuple(int(row[0]) for row in rows),
            steps=tuple(int(row[1]) for row in rows),
            examples=state.examples,
            epoch_losses=tuple((float(row[2]), int(row[3])) for row in rows),
            arrays=files,
            history=tuple(state.history),
            best_epoch=state.best_epoch,
            seconds=state.seconds,
        )

    def restore(self, saved: Checkpoint) -> RankState:
        """Set the step's weights and moments; give the state that goes with them."""
        rank = self._ring.rank
        arrays = self._place.checkpoints.arrays(saved.arrays[rank if len(saved.arrays) > 1 else 0])
        self._step.set_weights(_floats(arrays["weights"]))
        self._step.set_moments(_floats(arrays["moments"]), saved.steps[rank])
        # In the first epoch the sums are those of all ranks, and will be added up again: one of them carries them.
        carried = saved.epoch > 0 or rank == 0
        best = arrays.get("best_weights")
        return RankState(
            sums=sums_of(arrays["sums"].astype(np.int64), self._labels) if carried else no_sums(self._labels),
            epoch=saved.epoch,
            position=saved.positions[rank],
            examples=saved.examples,
            loss=saved.epoch_losses[rank][0],
            counted=saved.epoch_losses[rank][1],
            seconds=saved.seconds,
            history=list(saved.history),
            best_epoch=saved.best_epoch,
            best_weights=None if best is None else _floats(best),
        )


def _floats(array: Any) -> Any:
    return np.asarray(array, np.float32)
