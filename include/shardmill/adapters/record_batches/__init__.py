"""Batches of records, streamed from the lake by the worker that trains, scores or predicts with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from shardmill.adapters.record_batches.batch import Batch, BatchPlan, Item, assemble
from shardmill.adapters.record_batches.prefetch import Prefetch
from shardmill.adapters.record_batches.share import ShareReader, item_bytes
from shardmill.adapters.record_batches.slice import LabelError
from shardmill.adapters.records import Record
from shardmill.core.batch_pool import BatchPool, Drawn, default_buckets
from shardmill.core.worker_shares import PartSlice
from shardmill.specs.record_rejects import RejectTally

__all__ = ["Batch", "BatchPlan", "LabelError", "RecordBatches", "default_buckets"]

_AHEAD = 2
_MEGABYTE = 1_000_000


class RecordBatches:
    """The batches of a worker's share of the records.

    Parts are streamed. What is in memory is bounded by the plan, whatever the share: ``window_mb`` or two batches,
    ``memory_mb``, and three batches ahead of the consumer, which a thread of its own makes.
    """

    def __init__(self, share: Sequence[PartSlice], plan: BatchPlan, *, rank: int) -> None:
        """Plan to read; nothing is read before the first epoch.

        Args:
            rank: of the worker: workers with the same share and seed, but not the same rank, take other orders.
        """
        self._plan, self._rank, self._parts = plan, rank, len(share)
        self._reader = ShareReader(share, plan)
        self._ahead: Prefetch[Batch] | None = None

    @property
    def records(self) -> int:
        """Records of the share, rejects included."""
        return self._reader.records

    @property
    def batches(self) -> int:
        """Batches of an epoch, unless records are rejected."""
        return -(-self.records // self._plan.batch_size)

    @property
    def rejects(self) -> RejectTally:
        """What could not be used so far, each place once, however many epochs met it."""
        return self._reader.rejects

    def epoch(
        self, epoch: int, *, skip: int = 0, passed: Callable[[int], None] = lambda number: None
    ) -> Iterator[Batch]:
        """Give each record once, in batches; the same for the same share, plan, rank and epoch.

        Reading starts at once. An epoch that is left before its end should be closed (``contextlib.closing``); a new
        one ends it as well.

        Args:
            skip: batches to leave out at the beginning; they are read, but not copied.
            passed: takes the number of each batch left out, in the thread that reads: it can take long before the
                first batch is there.

        Raises (while batches are taken):
            MissingObjectError, ChangedObjectError, DamagedObjectError: a part is not the file that was planned with.
            LabelError: a record has labels beyond the vocabulary, or none where they are needed.
            TooManyRejectsError: more records than the plan allows cannot be used.
        """
        self.close()
        self._ahead = Prefetch(self._batches(epoch, skip, passed), _AHEAD, f"records of rank {self._rank}")
        return _until_closed(self._ahead)

    def close(self) -> None:
        """End the epoch that is read."""
        if self._ahead is not None:
            self._ahead.close()

    def _batches(self, epoch: int, skip: int, passed: Callable[[int], None]) -> Iterator[Batch]:
        plan = self._plan
        for number, drawn in enumerate(self._drawn(epoch)):
            if number < skip:
                passed(number)
            else:
                yield assemble(drawn.items, drawn.length, plan)

    def _drawn(self, epoch: int) -> Iterator[Drawn[Item]]:
        plan = self._plan
        random = np.random.default_rng([plan.seed, epoch, self._rank]) if plan.shuffle else None
        order = list(range(self._parts)) if random is None else random.permutation(self._parts).tolist()
        lengths = plan.lengths if plan.level == "frame" else (1,)
        pool: BatchPool[Item] = BatchPool(plan.batch_size, lengths, plan.window_mb * _MEGABYTE, random)
        for item in self._reader.read(order):
            length = 1 if not isinstance(item, Record) else len(item.rgb)
            yield from pool.add(item, length, item_bytes(item))
        yield from pool.drain()


def _until_closed(ahead: Prefetch[Batch]) -> Iterator[Batch]:
    try:
        yield from ahead
    finally:
        ahead.close()
