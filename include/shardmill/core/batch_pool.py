"""Batches of videos of about equal length, drawn from a pool that holds a bounded part of the data.

A batch is as long as its longest video; a video among longer ones is padded, and padding costs as much as frames.
Videos are therefore kept apart by length (buckets), and a batch is taken from one bucket, or from neighbours where none
is full (cf. Khomenko et al. 2016, "Accelerating recurrent neural network training using sequence bucketing and
multi-GPU data parallelization").
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

import numpy as np

Item = TypeVar("Item")
_MOST_BUCKETS = 15
_STEP = 20
_LEAST_BATCHES = 2


def default_buckets(max_frames: int) -> tuple[int, ...]:
    """Give the lengths of batches, ascending, at most 15: multiples of 20, 40 or so, and ``max_frames``.

    At 300 frames they are 20 apart, and a video of a length drawn evenly from 60 to 300 is padded by 5 % on average.
    """
    step = -(-max_frames // _MOST_BUCKETS // _STEP) * _STEP
    return (*range(step, max_frames, step), max_frames)


class Drawn(NamedTuple, Generic[Item]):
    """What a batch is made of."""

    length: int
    """Of its bucket, in frames."""
    items: list[Item]


class _Held(NamedTuple, Generic[Item]):
    item: Item
    size: int


class BatchPool(Generic[Item]):
    """Takes items in, and gives batches out once it holds more than its limit.

    Each item comes out once. All batches are full but at most one, so n items make ceil(n / batch_size) batches.
    """

    def __init__(
        self, batch_size: int, buckets: tuple[int, ...], limit: int, random: np.random.Generator | None
    ) -> None:
        """Make an empty pool.

        Args:
            buckets: lengths, ascending.
            limit: bytes to hold; two batches are held in any case.
            random: draws the order; without it a batch is given out as soon as a bucket fills one.
        """
        self._batch_size, self._buckets, self._limit, self._random = batch_size, buckets, limit, random
        self._held: list[list[_Held[Item]]] = [[] for _ in buckets]
        self._bytes = 0
        self._count = 0

    def add(self, item: Item, length: int, size: int) -> Iterator[Drawn[Item]]:
        """Take in an item of ``length`` frames and ``size`` bytes, and yield the batches that are due.

        Raises:
            ValueError: it is longer than the last bucket.
        """
        number = bisect_left(self._buckets, length)
        if number == len(self._buckets):
            raise ValueError(f"expected at most {self._buckets[-1]} frames in a record, found {length}")
        self._held[number].append(_Held(item, size))
        self._bytes += size
        self._count += 1
        if self._random is None and len(self._held[number]) == self._batch_size:
            yield self._take_all(number)
        while self._bytes > self._limit and self._count > _LEAST_BATCHES * self._batch_size:
            yield self._draw()

    def drain(self) -> Iterator[Drawn[Item]]:
        """Yield what is left, in batches; one of them may be smaller."""
        batches = []
        while self._count:
            count = min(self._batch_size, self._count)
            # From the longest down: the last batch, which fillers complete, is the shortest.
            batches.append(self._draw() if self._is_any_full() else self._run(self._count - count, count))
        order = range(len(batches)) if self._random is None else self._random.permutation(len(batches))
        yield from (batches[index] for index in order)

    def _is_any_full(self) -> bool:
        return any(len(held) >= self._batch_size for held in self._held)

    def _draw(self) -> Drawn[Item]:
        if not self._is_any_full():
            # No bucket fills a batch: items of neighbouring lengths do, anywhere among all ordered by length.
            last = self._count - self._batch_size
            return self._run(last if self._random is None else int(self._random.integers(last + 1)), self._batch_size)
        counts = np.array([len(held) if len(held) >= self._batch_size else 0 for held in self._held])
        if self._random is None:
            return self._take_all(int(counts.argmax()))
        number = int(self._random.choice(len(counts), p=counts / counts.sum()))
        held = self._held[number]
        places = range(len(held) - 1, len(held) - 1 - self._batch_size, -1)  # Fisher and Yates, from the end
        others = self._random.integers(0, np.array(places) + 1).tolist()
        for place, other in zip(places, others, strict=True):
            held[place], held[other] = held[other], held[place]
        taken = held[-self._batch_size :]
        del held[-self._batch_size :]
        return self._give(number, taken)

    def _take_all(self, number: int) -> Drawn[Item]:
        taken, self._held[number] = self._held[number][: self._batch_size], self._held[number][self._batch_size :]
        return self._give(number, taken)

    def _run(self, start: int, count: int) -> Drawn[Item]:
        """Take ``count`` items from place ``start`` on, of all ordered by bucket."""
        taken: list[_Held[Item]] = []
        longest, left = 0, start
        for number, held in enumerate(self._held):
            first, last = min(left, len(held)), min(left + count - len(taken), len(held))
            left -= first
            if first < last:
                taken += held[first:last]
                del held[first:last]
                longest = number
        return self._give(longest, taken)

    def _give(self, number: int, taken: list[_Held[Item]]) -> Drawn[Item]:
        self._bytes -= sum(held.size for held in taken)
        self._count -= len(taken)
        return Drawn(self._buckets[number], [held.item for held in taken])
