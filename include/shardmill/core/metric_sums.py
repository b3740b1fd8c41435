"""Metric sums: YouTube-8M's metrics and the loss, batch by batch, mergeable, in bounded memory."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from shardmill.core import metrics
from shardmill.core.score_cells import Floats, Integers, ScoreCells, no_cells, place_keys

ALL_CELLS = 2**18
"""Distinct scores that the ranking of all predictions holds."""
LABEL_CELLS = 2**20
"""The same of the labels' rankings together, but no label holds fewer than the next."""
LEAST_LABEL_CELLS = 512
_WAITING = 2**16
"""Predictions that wait to be counted, at least."""


@dataclass(frozen=True, eq=False)
class Metrics:
    """What `core.metrics` would say of all videos at once."""

    videos: int
    loss: float
    """Binary cross-entropy, the mean over videos and labels."""
    gap: float
    gap_margin: float
    """The exact GAP is at most so far away; 0 where it is exact."""
    hit_at_1: float
    perr: float
    positives: Integers
    """Videos that have each label, int64 [labels]."""
    label_average_precisions: Floats
    """float64 [labels]; none where labels were not ranked one by one."""
    map: float | None
    """Their mean."""
    map_margin: float | None
    """The exact one is at most so far away."""


@dataclass(frozen=True)
class _Totals:
    videos: int = 0
    loss: float = 0.0
    """In sum over videos and labels."""
    hits_at_1: int = 0
    perr: float = 0.0
    """In sum over videos."""

    def __add__(self, other: _Totals) -> _Totals:
        return _Totals(
            self.videos + other.videos,
            self.loss + other.loss,
            self.hits_at_1 + other.hits_at_1,
            self.perr + other.perr,
        )


class MetricSums:
    """Sums over videos, from which their metrics come; the sums of parts add up.

    Loss, Hit@1 and PERR are exact but for the rounding of sums. GAP and mAP are exact until 262,144 distinct scores, or
    for mAP 1,048,576 divided by the labels, at least 512, of one label; above, scores are told apart by fewer bits (see
    `score_cells`), and `Metrics` says how far the result may be off at most. On random scores it is within 1e-4
    (tests/core/test_metric_sums.py). Memory is at most 24 bytes a distinct score: 32 MB with 20 labels, 54 MB with
    3,862; while sums are merged or finished, some 100 MB more.
    """

    def __init__(self, labels: int, *, by_label: bool = True, top_k: int = metrics.TOP_K) -> None:
        """Begin with no video.

        Args:
            by_label: also rank each label, for mAP; without, 6 MB are enough.
            top_k: so many best labels of a video are ranked.
        """
        if labels < 1 or top_k < 1:
            raise ValueError(f"expected at least one label and one best label, found {labels} and {top_k}")
        capacities = [ALL_CELLS]
        if by_label:
            capacities += [max(LEAST_LABEL_CELLS, LABEL_CELLS // labels)] * labels
        self._by_label, self._top_k = by_label, top_k
        self._totals = _Totals()
        self._positives = np.zeros(labels, np.int64)
        self._cells = no_cells(np.array(capacities, np.int64))
        self._waiting: list[tuple[Integers, npt.NDArray[np.bool_]]] = []

    @property
    def labels(self) -> int:
        """Number of labels."""
        return len(self._positives)

    @property
    def videos(self) -> int:
        """Videos taken in so far."""
        return self._totals.videos

    @property
    def positives(self) -> Integers:
        """Videos that have each label, int64 [labels]."""
        return self._positives.copy()

    def add(self, scores: metrics.Scores, truth: metrics.Truth | npt.NDArray[np.number]) -> None:
        """Take in a batch.

        Args:
            scores: float [videos, labels] from 0 to 1; more bits than those of float32 count for nothing.
            truth: [videos, labels], bool, or numbers of which those above 0 are true.

        Raises:
            ValueError: the shapes differ, or a score is NaN or outside of 0 to 1.
        """
        taken, right = scores.astype(np.float32, copy=False), np.asarray(truth > 0, np.bool_)
        metrics.check_tables(taken, right)
        if scores.shape[1] != self.labels:
            raise ValueError(f"expected scores of {self.labels} labels, found {scores.shape[1]}")
        if taken.min() < 0 or taken.max() > 1:
            raise ValueError(f"expected scores from 0 to 1, found {taken.min()} to {taken.max()}")
        counts = right.sum(axis=1)
        best = metrics.best_labels(taken, max(self._top_k, int(counts.max())))
        hits = np.take_along_axis(right, best, axis=1)
        reached = np.take_along_axis(taken, best, axis=1)
        predicted = hits & (reached > 0) & (np.arange(best.shape[1]) < counts[:, None])
        self._totals += _Totals(
            videos=len(taken),
            loss=metrics.binary_cross_entropy(taken, right) * taken.size,
            hits_at_1=int(hits[:, 0].sum()),
            perr=float((predicted.sum(axis=1) / np.maximum(counts, 1)).sum()),
        )
        self._positives += right.sum(axis=0)
        top = slice(self._top_k)
        self._rank(best[:, top].ravel(), reached[:, top].ravel(), hits[:, top].ravel())

    def _rank(self, labels: npt.NDArray[np.intp], scores: npt.NDArray[np.float32], hits: npt.NDArray[np.bool_]) -> None:
        rankings = [np.zeros(len(labels), np.int64), *([labels + 1] if self._by_label else [])]
        self._waiting += [(place_keys(ranking, scores), hits) for ranking in rankings]
        if sum(len(keys) for keys, _ in self._waiting) > max(_WAITING, len(self._cells.keys) // 4):
            self._counted()

    def _counted(self) -> ScoreCells:
        if self._waiting:
            keys, hits = (np.concatenate(arrays) for arrays in zip(*self._waiting, strict=True))
            self._cells, self._waiting = self._cells.count(keys, hits), []
        return self._cells

    def __add__(self, other: MetricSums) -> MetricSums:
        if (self.labels, self._by_label, self._top_k) != (other.labels, other._by_label, other._top_k):
            raise ValueError("expected sums over the same labels and as many best ones, found others")
        both = MetricSums(self.labels, by_label=self._by_label, top_k=self._top_k)
        both._totals = self._totals + other._totals
        both._positives = self._positives + other._positives
        both._cells = self._counted() + other._counted()
        return both

    def ranking(self, label: int | None) -> tuple[Floats, Integers, Integers]:
        """Give what is counted of one label's ranking, or, by None, of that of all labels together.

        Returns:
            Distinct scores, the highest first; how many predictions have each; how many of these are right.

        Raises:
            ValueError: labels were not ranked one by one.
        """
        if label is not None and not self._by_label:
            raise ValueError("expected sums that rank each label, found one ranking of all")
        return self._counted().ranking(0 if label is None else label + 1)

    def finish(self) -> Metrics:
        """Give the metrics of all that was taken in. Raises ValueError where there was no video."""
        totals = self._totals
        if not totals.videos:
            raise ValueError("expected scores of videos, found none")
        wanted = [self._positives.sum()[None], *([self._positives] if self._by_label else [])]
        values, margins = self._counted().average_precisions(np.concatenate(wanted))
        return Metrics(
            videos=totals.videos,
            loss=totals.loss / totals.videos / self.labels,
            gap=float(values[0]),
            gap_margin=float(margins[0]),
            hit_at_1=totals.hits_at_1 / totals.videos,
            perr=totals.perr / totals.videos,
            positives=self.positives,
            label_average_precisions=values[1:],
            map=float(values[1:].mean()) if self._by_label else None,
            map_margin=float(margins[1:].mean()) if self._by_label else None,
        )

    def to_bytes(self) -> bytes:
        """Write the sums as .npz of numbers; equal sums give equal bytes."""
        cells, totals, buffer = self._counted(), self._totals, io.BytesIO()
        np.savez(
            buffer,
            shape=np.array([self.labels, self._by_label, self._top_k], np.int64),
            counts=np.array([totals.videos, totals.hits_at_1], np.int64),
            sums=np.array([totals.loss, totals.perr], np.float64),
            positives=self._positives,
            shifts=cells.shifts,
            cells=np.stack([cells.keys, cells.counts, cells.hits]),
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read sums; nothing is unpickled. Raises ValueError where the bytes are something else."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as found:
                arrays = {name: found[name] for name in ("shape", "counts", "sums", "positives", "shifts", "cells")}
        except (KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"expected metric sums, found other bytes: {error}") from error
        sums = cls(int(arrays["shape"][0]), by_label=bool(arrays["shape"][1]), top_k=int(arrays["shape"][2]))
        expected = [(2,), (2,), (sums.labels,), sums._cells.shifts.shape, (3, arrays["cells"].shape[-1])]
        shapes = [arrays[name].shape for name in ("counts", "sums", "positives", "shifts", "cells")]
        whole = all(array.dtype == (np.float64 if name == "sums" else np.int64) for name, array in arrays.items())
        if shapes != expected or not whole:
            raise ValueError(f"expected metric sums of shapes {expected}, found {shapes}")
        videos, hits_at_1 = map(int, arrays["counts"])
        sums._totals = _Totals(videos, float(arrays["sums"][0]), hits_at_1, float(arrays["sums"][1]))
        sums._positives = arrays["positives"]
        keys, counts, hits = arrays["cells"]
        sums._cells = replace(sums._cells, shifts=arrays["shifts"], keys=keys, counts=counts, hits=hits)
        return sums
