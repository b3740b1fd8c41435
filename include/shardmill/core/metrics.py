"""YouTube-8M's metrics: GAP, mean average precision, Hit@1, PERR.

All take ``scores``, float [videos, labels], and ``truth``, bool of the same shape, and follow YouTube-8M's
``eval_util`` in what it leaves open: only a video's ``top_k`` best labels are ranked, while every true label counts as
one to be found; a label without a positive has average precision 0 and counts in the mean; a video without a label
counts as 0 in Hit@1 and PERR. One thing is exact here that is drawn by lot there: equal scores in a ranking, which it
brings into random order, get the mean over all orders. Within one video, equal scores are taken in the order of the
labels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TOP_K = 20

Scores = npt.NDArray[np.floating]
Truth = npt.NDArray[np.bool_]


def check_tables(scores: Scores, truth: Truth) -> None:
    """Refuse tables that are not scores and truth of videos. Raises ValueError."""
    if scores.ndim != 2 or scores.shape != truth.shape or scores.size == 0:
        raise ValueError(f"expected scores and truth as [videos, labels], found {scores.shape} and {truth.shape}")
    if truth.dtype != np.bool_:
        raise ValueError(f"expected truth as bool, found {truth.dtype}")
    if not np.isfinite(scores).all():
        raise ValueError("expected finite scores, found NaN or infinity: the model's weights are damaged or diverged")


def best_labels(scores: Scores, most: int) -> npt.NDArray[np.intp]:
    """Give each video's best labels, best first, equal scores in the order of the labels.

    Args:
        scores: float [videos, labels].

    Returns:
        Label numbers [videos, min(most, labels)].
    """
    if 4 * most >= scores.shape[1]:
        return np.argsort(-scores, axis=1, kind="stable")[:, :most]
    # Of thousands of labels few are wanted: they are chosen first and sorted then.
    least = -np.partition(-scores, most - 1, axis=1)[:, most - 1 : most]
    above, level = scores > least, scores == least
    chosen = above | (level & (np.cumsum(level, axis=1) <= most - above.sum(axis=1, keepdims=True)))
    labels = np.nonzero(chosen)[1].reshape(len(scores), most)
    order = np.argsort(-np.take_along_axis(scores, labels, axis=1), axis=1, kind="stable")
    return np.take_along_axis(labels, order, axis=1)


def _is_top(scores: Scores, top_k: int) -> npt.NDArray[np.bool_]:
    chosen = np.zeros(scores.shape, np.bool_)
    np.put_along_axis(chosen, best_labels(scores, top_k), True, axis=1)
    return chosen


def average_precision(scores: Scores, truth: Truth, positives: int) -> float:
    """Give the non-interpolated average precision of one ranking; the mean over all orders of equal scores.

    Args:
        scores: float [items].
        truth: bool [items].
        positives: what there was to be found, in the ranking or not; where 0, the result is 0.
    """
    if positives == 0 or scores.size == 0:
        return 0.0
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], truth[order].astype(np.float64)
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    sizes = np.diff(np.r_[starts, ranked.size])
    group_hits = np.add.reduceat(hits, starts)
    hits_before = np.repeat(np.cumsum(group_hits) - group_hits, sizes)
    size, found = np.repeat(sizes, sizes), np.repeat(group_hits, sizes)
    rank = np.arange(1, ranked.size + 1)
    place = rank - np.repeat(starts, sizes) - 1
    # At place j of a group of n equal scores with p hits: a hit is there with probability p/n, and if so, the j places
    # before it hold j (p-1)/(n-1) hits in the mean.
    hits_up_to = hits_before + 1 + place * (found - 1) / np.maximum(size - 1, 1)
    return float((found / size * hits_up_to / rank).sum() / positives)


def global_average_precision(scores: Scores, truth: Truth, top_k: int = TOP_K) -> float:
    """Rank the best labels of all videos in one list and give its average precision."""
    check_tables(scores, truth)
    top = _is_top(scores, top_k)
    return average_precision(scores[top], truth[top], int(truth.sum()))


def label_average_precisions(scores: Scores, truth: Truth, top_k: int = TOP_K) -> npt.NDArray[np.float64]:
    """Give each label's average precision over the videos that have it among their best; float64 [labels]."""
    check_tables(scores, truth)
    top = _is_top(scores, top_k)
    return np.array(
        [
            average_precision(scores[top[:, label], label], truth[top[:, label], label], int(truth[:, label].sum()))
            for label in range(scores.shape[1])
        ]
    )


def mean_average_precision(scores: Scores, truth: Truth, top_k: int = TOP_K) -> float:
    """Give the mean of the labels' average precisions."""
    return float(label_average_precisions(scores, truth, top_k).mean())


def hit_at_one(scores: Scores, truth: Truth) -> float:
    """Give the share of videos whose best label is right."""
    check_tables(scores, truth)
    return float(truth[np.arange(len(truth)), scores.argmax(axis=1)].mean())


def precision_at_equal_recall_rate(scores: Scores, truth: Truth) -> float:
    """Take as many best labels of a video as it has true ones; give the mean share that is right.

    A label with score 0 is not predicted, even among the best.
    """
    check_tables(scores, truth)
    counts = truth.sum(axis=1)
    order = best_labels(scores, max(1, int(counts.max())))
    taken = np.arange(order.shape[1]) < counts[:, None]
    right = np.take_along_axis(truth & (scores > 0), order, axis=1)
    return float(((right & taken).sum(axis=1) / np.maximum(counts, 1)).mean())


def binary_cross_entropy(scores: Scores, truth: Truth) -> float:
    """Give the mean over videos and labels, with scores kept 1e-7 away from 0 and 1 as Keras does."""
    check_tables(scores, truth)
    clipped = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.where(truth, np.log(clipped), np.log1p(-clipped)).mean())
