"""TensorBoard's event log, in the run's folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from shardmill.adapters.store import Store
from shardmill.specs.records import EpochLoss

FOLDER = "tensorboard"
_TAGS = {
    "loss/training": "loss",
    "loss/validation": "validation_loss",
    "validation/gap": "validation_gap",
    "validation/map": "validation_map",
    "validation/hit_at_1": "validation_hit_at_1",
    "validation/perr": "validation_perr",
    "speed/examples_per_second": "examples_per_second",
    "learning_rate": "learning_rate",
}


class TensorBoardLog:
    """Writes events on disk and puts the file, which stays small, into the run's folder after every epoch."""

    def __init__(self, store: Store, attempt: str, folder: Path) -> None:
        self._store, self._attempt, self._folder = store, attempt, folder
        self._writer = tf.summary.create_file_writer(str(folder))

    def add(self, done: EpochLoss) -> None:
        """Log an epoch."""
        with self._writer.as_default(step=done.epoch):
            for tag, name in _TAGS.items():
                value = getattr(done, name)
                if value is not None:
                    tf.summary.scalar(tag, value)
            for rank, loss in enumerate(done.worker_losses):
                tf.summary.scalar(f"loss/worker_{rank}", loss)
        self._writer.flush()
        for path in self._folder.iterdir():
            self._store.put(f"{FOLDER}/{self._attempt}/{path.name}", path.read_bytes())


@contextmanager
def event_log(store: Store, attempt: str) -> Iterator[TensorBoardLog]:
    """Open the log of an attempt."""
    with tempfile.TemporaryDirectory(prefix="events-") as folder:
        yield TensorBoardLog(store, attempt, Path(folder))
