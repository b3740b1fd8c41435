"""Score cells: predictions counted by score, from which average precision follows, in bounded memory.

Each ranking (of all labels together, or of one label) holds the scores that occurred, and of each how many predictions
and how many right ones had it. That is exact. Where a ranking has more distinct scores than it may hold, the lowest bit
of its scores is dropped, and again until they fit: neighbours then count as equal. What is kept depends on the
predictions alone, not on their order, nor on how they were dealt to those who counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Table = tuple[Integers, Integers, Integers]
"""Keys, ascending, counts and hits of cells."""

_PLACE_BITS = 31
_BLOCK = 256
"""Rankings that are worked on at once: what is needed beside the cells stays small."""
_HALF = int(np.float32(0.5).view(np.uint32))
_TABLE = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, 257))])
"""Harmonic numbers up to the 256th; above, their asymptotic series is exact to 1e-13."""


def places(scores: npt.NDArray[np.float32]) -> Integers:
    """Number scores from 0 to 1 in their order, equal ones alike, from 0 to 2^31.

    A score up to 0.5 gives its bits, a higher one those of what it lacks to 1 (which float32 holds exactly): dropped
    low bits cost the same share of a score near 0 as of the distance from 1.
    """
    low = scores <= 0.5
    near = np.where(low, scores, np.float32(1) - scores) + np.float32(0)  # -0.0 becomes 0.0
    bits = near.astype(np.float32).view(np.uint32).astype(np.int64)
    return np.where(low, bits, 2 * _HALF - bits)


def scores_at(numbers: Integers) -> Floats:
    """Give the scores that `places` numbers so; float64."""
    low = numbers <= _HALF
    near = np.where(low, numbers, 2 * _HALF - numbers).astype(np.uint32).view(np.float32).astype(np.float64)
    return np.where(low, near, 1 - near)


def place_keys(rankings: Integers, scores: npt.NDArray[np.float32]) -> Integers:
    """Number predictions by ranking first and by score second; int64 [predictions]."""
    return (rankings << _PLACE_BITS) | places(scores)


@dataclass(frozen=True, eq=False)
class ScoreCells:
    """Predictions counted by ranking and score; the cells of two add up."""

    capacities: Integers
    """Most cells of each ranking, int64 [rankings]."""
    shifts: Integers
    """Bits that were dropped in each ranking, int64 [rankings]."""
    keys: Integers
    """Ranking and score of each cell, ascending, as in `place_keys`; int64 [cells]."""
    counts: Integers
    """Predictions in each cell; int64 [cells]."""
    hits: Integers
    """Those that are right; int64 [cells]."""

    def __add__(self, other: ScoreCells) -> ScoreCells:
        if not np.array_equal(self.capacities, other.capacities):
            raise ValueError("expected cells of the same rankings and capacities, found others")
        return _fitted(self.capacities, np.maximum(self.shifts, other.shifts), [self._table, other._table])

    @property
    def _table(self) -> Table:
        return self.keys, self.counts, self.hits

    def count(self, keys: Integers, hits: npt.NDArray[np.bool_]) -> ScoreCells:
        """Take in predictions.

        Args:
            keys: as in `place_keys`, int64 [predictions].
            hits: which are right, bool [predictions].
        """
        order = np.argsort(keys, kind="stable")
        table = keys[order], np.ones(len(keys), np.int64), hits[order].astype(np.int64)
        return _fitted(self.capacities, self.shifts, [self._table, table])

    def ranking(self, number: int) -> tuple[Floats, Integers, Integers]:
        """Give the cells of one ranking, the highest score first: scores, counts, hits.

        Where bits were dropped, a score is the lowest of those that count as equal to it.
        """
        keys, counts, hits = (column[::-1] for column in _of(self._table, range(number, number + 1)))
        return scores_at(keys & ((1 << _PLACE_BITS) - 1)), counts, hits

    def average_precisions(self, positives: Integers) -> tuple[Floats, Floats]:
        """Give each ranking's average precision, and how far that may be from the exact one.

        Predictions in one cell get the mean over all their orders. Where bits were dropped, the exact value lies
        between the best and the worst order; the second result is the larger distance from these, else 0.

        Args:
            positives: what there was to be found in each ranking, int64 [rankings]; where 0, the results are 0.

        Returns:
            Twice float64 [rankings].
        """
        values, margins = np.zeros(len(self.shifts)), np.zeros(len(self.shifts))
        for block in _blocks(len(self.shifts)):
            found, margin = _precision_sums(_of(self._table, block), self.shifts)
            values += found
            margins += margin
        scale = np.where(positives > 0, 1 / np.maximum(positives, 1), 0.0)
        # Harmonic sums are differences of large ones: their last bits may lead above a perfect 1.
        return np.clip(values * scale, 0.0, 1.0), margins * scale


def no_cells(capacities: Integers) -> ScoreCells:
    """Give the cells of no prediction. Args: capacities: most cells of each ranking, at least 2; int64 [rankings]."""
    if capacities.ndim != 1 or (capacities < 2).any():
        raise ValueError(f"expected capacities of at least 2 cells, found {capacities}")
    none = np.zeros(0, np.int64)
    return ScoreCells(capacities, np.zeros(len(capacities), np.int64), none, none, none)


def _blocks(rankings: int) -> Iterator[range]:
    return (range(first, min(first + _BLOCK, rankings)) for first in range(0, rankings, _BLOCK))


def _of(table: Table, block: range) -> Table:
    """Take out the cells of a block of rankings."""
    first, last = np.searchsorted(table[0], [block.start << _PLACE_BITS, block.stop << _PLACE_BITS])
    keys, counts, hits = (column[first:last] for column in table)
    return keys, counts, hits


def _fitted(capacities: Integers, shifts: Integers, tables: Sequence[Table]) -> ScoreCells:
    """Put tables and their equal keys together, and drop bits until every ranking fits."""
    parts = []
    for block in _blocks(len(capacities)):
        columns = zip(*(_of(table, block) for table in tables), strict=True)
        keys, counts, hits = (np.concatenate(column) for column in columns)
        keys = _rounded(keys, shifts)
        order = np.argsort(keys, kind="stable")
        keys, counts, hits = _joined(keys[order], counts[order], hits[order])
        while (full := np.bincount(keys >> _PLACE_BITS, minlength=len(shifts)) > capacities).any():
            shifts = shifts + full
            keys, counts, hits = _joined(_rounded(keys, shifts), counts, hits)
        parts.append((keys, counts, hits))
    keys, counts, hits = (np.concatenate(column) for column in zip(*parts, strict=True))
    return ScoreCells(capacities, shifts, keys, counts, hits)


def _precision_sums(table: Table, shifts: Integers) -> tuple[Floats, Floats]:
    """Sum the precisions at the hits of each ranking, and how far the sum may be off; twice float64 [rankings]."""
    keys, counts, hits = (column[::-1] for column in table)
    rankings = keys >> _PLACE_BITS
    before, found = _before(rankings, counts), _before(rankings, hits)
    mean = _mean_over_orders(before, found, counts, hits)
    best = hits + (found - before) * _harmonic_sum(before, hits)
    behind = before + counts - hits
    worst = hits + (found - behind) * _harmonic_sum(behind, hits)
    coarse = shifts[rankings] > 0

    def summed(weights: Floats) -> Floats:
        return np.bincount(rankings, weights=weights, minlength=len(shifts)).astype(np.float64)

    margins = np.maximum(summed(coarse * (best - mean)), summed(coarse * (mean - worst)))
    return summed(mean), np.maximum(margins, 0)


def _rounded(keys: Integers, shifts: Integers) -> Integers:
    dropped = shifts[keys >> _PLACE_BITS]
    return (keys >> dropped) << dropped


def _joined(keys: Integers, counts: Integers, hits: Integers) -> Table:
    if not len(keys):
        return keys, counts, hits
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    return keys[starts], np.add.reduceat(counts, starts), np.add.reduceat(hits, starts)


def _before(rankings: Integers, values: Integers) -> Integers:
    """Sum what stands before each cell in its ranking; the cells of a ranking are neighbours."""
    if not len(values):
        return values
    sums = np.cumsum(values) - values
    first = np.r_[True, rankings[1:] != rankings[:-1]]
    return sums - sums[np.flatnonzero(first)][np.cumsum(first) - 1]


def _harmonic_sum(start: Integers, count: Integers) -> Floats:
    """Give 1/(start+1) + … + 1/(start+count)."""
    end, known = start + count, len(_TABLE) - 1
    x, y = np.maximum(start, known).astype(np.float64), np.maximum(end, known).astype(np.float64)
    beyond = np.log1p((y - x) / x) + (1 / y - 1 / x) / 2 - (1 / y**2 - 1 / x**2) / 12
    return _TABLE[np.minimum(end, known)] - _TABLE[np.minimum(start, known)] + beyond


def _mean_over_orders(before: Integers, found: Integers, counts: Integers, hits: Integers) -> Floats:
    """Sum the precisions at the hits of each cell, in the mean over all orders within it.

    At place j of n predictions with p hits: a hit is there with probability p/n, and if so, the j places before it hold
    j (p-1)/(n-1) hits in the mean.
    """
    slope = (hits - 1) / np.maximum(counts - 1, 1)
    reach = _harmonic_sum(before, counts)
    return hits / counts * (slope * counts + (found + 1 - slope * (before + 1)) * reach)
