"""What rank 0 tells while a training goes: lines for the driver, ``history.json``, TensorBoard's log."""

from __future__ import annotations

from collections import deque

from shardmill.adapters.barrier_training.job import EventLog
from shardmill.adapters.store import MissingObjectError, Store, read_sealed
from shardmill.specs.records import EpochLoss
from shardmill.specs.training_run import Progress, TrainingHistory

PROGRESS_KEY = "training/progress.json"
HISTORY_KEY = "history.json"
_KEPT = 200


class Telling:
    """Leaves lines in the run's folder; the driver reads them there, so it needs no port of its own."""

    def __init__(self, store: Store, attempt: str, inputs: str, events: EventLog) -> None:
        self._store, self._attempt, self._inputs, self._events = store, attempt, inputs, events
        self._lines: deque[str] = deque(maxlen=_KEPT)
        self._count = 0

    def say(self, line: str) -> None:
        """Leave a line for the driver."""
        self._lines.append(line)
        self._count += 1
        first = self._count - len(self._lines)
        self._store.put(PROGRESS_KEY, Progress(attempt=self._attempt, first=first, lines=tuple(self._lines)).to_json())

    def epoch(self, history: list[EpochLoss], epochs: int) -> None:
        """Tell of an epoch that is done."""
        self._store.put(HISTORY_KEY, TrainingHistory(inputs=self._inputs, epochs=tuple(history)).to_json())
        self._events.add(history[-1])
        self.say(epoch_line(history[-1], epochs))


def epoch_line(done: EpochLoss, epochs: int) -> str:
    """Write an epoch in a line."""
    told = [] if done.loss is None else [f"loss {done.loss:.4f}"]
    for name, value in (("loss", done.validation_loss), ("GAP", done.validation_gap)):
        told += [] if value is None else [f"validation {name} {value:.4f}"]
    if done.examples_per_second:
        told.append(f"{done.examples_per_second:.0f} examples/s")
    return f"epoch {done.epoch}/{epochs}: {', '.join(told)}"


class ProgressReader:
    """Reads the lines of one attempt, each once."""

    def __init__(self, store: Store, attempt: str) -> None:
        self._store, self._attempt = store, attempt
        self._told = 0

    def new_lines(self) -> tuple[str, ...]:
        """Give the lines that came since the last call."""
        try:
            found = read_sealed(self._store, PROGRESS_KEY, Progress)
        except MissingObjectError:
            return ()
        if found.attempt != self._attempt:
            return ()
        lines = found.lines[max(self._told - found.first, 0) :]
        self._told = found.first + len(found.lines)
        return lines
