"""Precision–recall curves out of metric sums: the same counted scores that the average precisions come from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shardmill.core.metric_sums import MetricSums
from shardmill.core.score_cells import Floats, Integers
from shardmill.specs.curves import LabelCurve, LabelCurves, PrecisionRecall

MOST_LABELS = 200
"""Labels that have a curve, those with the most validation videos."""
MOST_POINTS = 48


def label_curves(sums: MetricSums, names: Sequence[str], inputs: str) -> LabelCurves:
    """Draw the curve of each label and that of all together.

    Args:
        sums: of all videos, with labels ranked one by one; only each video's best labels are in them, as in GAP.
        names: the label of each column of the scores.
        inputs: the ``inputs`` of the model.
    """
    positives = sums.positives
    frequent = np.argsort(-positives, kind="stable")[:MOST_LABELS]
    everything = int(positives.sum())
    return LabelCurves(
        inputs=inputs,
        videos=sums.videos,
        together=curve("", sums.ranking(None), everything) if everything else None,
        labels=tuple(
            curve(names[label], sums.ranking(int(label)), int(positives[label]))
            for label in frequent
            if positives[label]
        ),
    )


def curve(label: str, ranking: tuple[Floats, Integers, Integers], positives: int) -> LabelCurve:
    """Draw one curve.

    Args:
        ranking: distinct scores, highest first; how many predictions have each; how many of these are right.
        positives: what there was to be found, above 0; it may be more than the ranking holds.
    """
    scores, counts, hits = ranking
    called, found = np.cumsum(counts), np.cumsum(hits)
    # Between two hits precision only falls, at the same recall: no threshold there is worth taking.
    rises = np.flatnonzero(hits)
    points = [
        PrecisionRecall(
            threshold=round(float(scores[at]), 6),
            precision=round(float(found[at] / called[at]), 6),
            recall=round(float(found[at] / positives), 6),
        )
        for at in rises
    ]
    best = max(points, key=lambda point: point.f1, default=None)
    return LabelCurve(label=label, positives=positives, points=_thinned(points), best=best)


def _thinned(points: Sequence[PrecisionRecall]) -> tuple[PrecisionRecall, ...]:
    """Keep the first, the last, and of the others those that come first at or behind marks spread over the recall."""
    if len(points) <= MOST_POINTS:
        return _rising(points)
    recalls = np.array([point.recall for point in points])
    marks = np.linspace(recalls[0], recalls[-1], MOST_POINTS)
    kept = np.unique(np.minimum(np.searchsorted(recalls, marks - 1e-9), len(points) - 1))
    return _rising([points[at] for at in kept])


def _rising(points: Sequence[PrecisionRecall]) -> tuple[PrecisionRecall, ...]:
    """Leave out what six digits of recall do not tell from the point before."""
    return tuple(
        point
        for before, point in zip([None, *points], points, strict=False)
        if not before or point.recall > before.recall
    )
