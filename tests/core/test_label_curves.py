"""Precision–recall curves, against a count by hand at every threshold."""

from __future__ import annotations

import numpy as np
import pytest

from shardmill.core import metrics
from shardmill.core.label_curves import MOST_LABELS, MOST_POINTS, label_curves
from shardmill.core.metric_sums import MetricSums
from shardmill.core.score_cells import places, scores_at
from shardmill.specs.curves import LabelCurve, PrecisionRecall


def summed(scores: np.ndarray, truth: np.ndarray, workers: int = 3) -> MetricSums:
    sums = MetricSums(scores.shape[1])
    for rows in np.array_split(np.arange(len(scores)), workers):
        part = MetricSums(scores.shape[1])
        part.add(scores[rows], truth[rows])
        sums += part
    return sums


def by_hand(scores: np.ndarray, truth: np.ndarray) -> list[tuple[float, float, float]]:
    """Threshold, precision, recall wherever recall rises: all videos are looked at anew for each threshold."""
    rows, before = [], 0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        called = scores >= threshold
        right = int((called & truth).sum())
        if right > before:
            rows.append((threshold, right / int(called.sum()), right / int(truth.sum())))
        before = right
    return rows


@pytest.mark.parametrize("digits", [1, 6], ids=["many equal scores", "distinct scores"])
def test_a_curve_is_what_counting_at_each_threshold_gives(digits):
    random = np.random.default_rng(5)
    scores = random.random((40, 4)).round(digits).astype(np.float32)
    truth = random.random((40, 4)) < 0.3

    drawn = label_curves(summed(scores, truth), ["a", "b", "c", "d"], "i")

    assert drawn.videos == 40
    columns = {curve.label: "abcd".index(curve.label) for curve in drawn.labels}
    assert set(columns) == set("abcd")
    for curve in drawn.labels:
        expected = by_hand(scores[:, columns[curve.label]], truth[:, columns[curve.label]])
        found = [(point.threshold, point.precision, point.recall) for point in curve.points]
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert curve.positives == truth[:, columns[curve.label]].sum()
        f1 = max(2 * p * r / (p + r) for _, p, r in expected)
        assert curve.best.f1 == pytest.approx(f1, abs=1e-5)


def test_the_area_of_a_curve_with_all_its_points_is_the_average_precision():
    random = np.random.default_rng(6)
    scores, truth = random.random((30, 3)).astype(np.float32), random.random((30, 3)) < 0.4

    drawn = label_curves(summed(scores, truth), ["a", "b", "c"], "i")

    precisions = metrics.label_average_precisions(scores, truth)
    for curve in drawn.labels:
        area = sum(point.precision for point in curve.points) / curve.positives
        assert area == pytest.approx(precisions["abc".index(curve.label)], abs=1e-5)
    assert drawn.together.positives == truth.sum()
    found = [(point.threshold, point.precision, point.recall) for point in drawn.together.points]
    expected = by_hand(scores.ravel(), truth.ravel())
    assert len(found) <= len(expected)
    assert all(any(np.allclose(one, other, atol=1e-6) for other in expected) for one in found)


def test_a_long_curve_is_thinned_to_thresholds_that_occurred_from_its_first_to_its_last():
    random = np.random.default_rng(7)
    truth = random.random((5000, 1)) < 0.5
    scores = (0.6 * random.random((5000, 1)) + 0.3 * truth).astype(np.float32)

    (curve,) = label_curves(summed(scores, truth), ["a"], "i").labels

    expected = by_hand(scores[:, 0], truth[:, 0])
    assert MOST_POINTS - 3 <= len(curve.points) <= MOST_POINTS
    for point in curve.points:
        assert (
            min(abs(point.threshold - t) + abs(point.precision - p) + abs(point.recall - r) for t, p, r in expected)
            < 5e-6
        )
    assert curve.points[0].recall == pytest.approx(expected[0][2], abs=1e-6)
    assert curve.points[-1].recall == pytest.approx(1.0)
    recalls = np.array([point.recall for point in curve.points])
    assert np.diff(recalls).max() < 2.5 / MOST_POINTS


def test_positives_beyond_a_videos_best_labels_are_missed_not_forgotten():
    scores = np.linspace(0.9, 0.1, 30, dtype=np.float32)[None].repeat(2, axis=0)
    truth = np.zeros((2, 30), np.bool_)
    truth[:, 29] = True  # ranks 30th, beyond the 20 that are ranked

    drawn = label_curves(summed(scores, truth, workers=1), [str(n) for n in range(30)], "i")

    assert [(curve.label, curve.points, curve.best) for curve in drawn.labels] == [("29", (), None)]
    assert drawn.together.points == () and drawn.together.positives == 2


def test_labels_that_no_video_has_are_left_out_and_of_very_many_the_frequent_are_kept():
    labels = MOST_LABELS + 50
    random = np.random.default_rng(8)
    truth = np.zeros((300, labels), np.bool_)
    for label in range(1, labels):
        truth[: label + 1, label] = True
    scores = random.random((300, labels)).astype(np.float32)

    drawn = label_curves(summed(scores, truth), [str(n) for n in range(labels)], "i")

    assert [int(curve.label) for curve in drawn.labels] == list(range(labels - 1, labels - 1 - MOST_LABELS, -1))


def test_a_place_says_which_score_it_is_of():
    scores = np.array([0, 1e-30, 0.1, 0.5, np.nextafter(np.float32(0.5), np.float32(1)), 0.9, 1], np.float32)
    assert scores_at(places(scores)).astype(np.float32).tolist() == scores.tolist()


def test_a_curve_whose_recall_falls_is_none():
    points = (
        PrecisionRecall(threshold=0.9, precision=1, recall=0.5),
        PrecisionRecall(threshold=0.8, precision=1, recall=0.5),
    )
    with pytest.raises(ValueError, match="expected recall to rise"):
        LabelCurve(label="a", positives=2, points=points, best=None)
