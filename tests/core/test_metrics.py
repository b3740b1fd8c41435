"""The metrics against a naive reading of their definitions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shardmill.core import metrics

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 8))


@st.composite
def tables(draw: st.DrawFn, distinct: bool = False) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(SHAPES)
    if distinct:
        size = shape[0] * shape[1]
        scores = np.array(draw(st.permutations(range(1, size + 1))), np.float32).reshape(shape) / size
    else:
        scores = draw(arrays.arrays(np.float32, shape, elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])))
    return scores, draw(arrays.arrays(np.bool_, shape))


def ap_of_order(hits: Iterable[bool], positives: int) -> float:
    found, total = 0, 0.0
    for rank, hit in enumerate(hits, start=1):
        if hit:
            found += 1
            total += found / rank
    return total / positives if positives else 0.0


def naive_gap(scores: np.ndarray, truth: np.ndarray, top_k: int) -> float:
    ranked = []
    for row, real in zip(scores, truth, strict=True):
        best = sorted(range(len(row)), key=lambda label: (-row[label], label))[:top_k]
        ranked += [(row[label], real[label]) for label in best]
    ranked.sort(key=lambda pair: -pair[0])
    return ap_of_order([hit for _, hit in ranked], int(truth.sum()))


def ap_over_orders(items: list[tuple[float, bool]], positives: int) -> float:
    """The mean average precision over all orders of equal scores: their hits may stand at any of their places."""
    total, rank, found = 0.0, 0, 0
    for _, group in itertools.groupby(sorted(items, key=lambda item: -item[0]), key=lambda item: item[0]):
        hits = [hit for _, hit in group]
        sums = []
        for chosen in itertools.combinations(range(len(hits)), sum(hits)):
            sums.append(sum((found + nth) / (rank + place + 1) for nth, place in enumerate(chosen, start=1)))
        total += sum(sums) / len(sums)
        rank, found = rank + len(hits), found + sum(hits)
    return total / positives if positives else 0.0


def best_of(row: np.ndarray, top_k: int) -> list[int]:
    return sorted(range(len(row)), key=lambda label: (-row[label], label))[:top_k]


@settings(deadline=None)
@given(tables(), st.integers(1, 9))
def test_ties_empty_labels_and_videos_without_labels_count_as_the_definition_says(
    table: tuple[np.ndarray, np.ndarray], top_k: int
) -> None:
    scores, truth = table[0][:4, :4], table[1][:4, :4]
    ranked = [
        (label, float(row[label]), bool(real[label]))
        for row, real in zip(scores, truth, strict=True)
        for label in best_of(row, top_k)
    ]
    gap = ap_over_orders([(score, hit) for _, score, hit in ranked], int(truth.sum()))
    by_label = [
        ap_over_orders([(score, hit) for of, score, hit in ranked if of == label], int(truth[:, label].sum()))
        for label in range(scores.shape[1])
    ]
    assert metrics.global_average_precision(scores, truth, top_k) == pytest.approx(gap)
    assert metrics.label_average_precisions(scores, truth, top_k) == pytest.approx(by_label)
    assert metrics.mean_average_precision(scores, truth, top_k) == pytest.approx(sum(by_label) / len(by_label))


@settings(deadline=None)
@given(tables())
def test_the_loss_is_the_mean_binary_cross_entropy(table: tuple[np.ndarray, np.ndarray]) -> None:
    losses = []
    for score, real in zip(table[0].ravel().tolist(), table[1].ravel().tolist(), strict=True):
        kept = min(max(score, 1e-7), 1 - 1e-7)
        losses.append(-math.log(kept if real else 1 - kept))
    assert metrics.binary_cross_entropy(*table) == pytest.approx(sum(losses) / len(losses))


@settings(deadline=None)
@given(
    arrays.arrays(
        np.float32, st.tuples(st.integers(1, 5), st.integers(1, 60)), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])
    ),
    st.integers(1, 70),
)
def test_the_best_labels_are_those_of_a_stable_sort(scores: np.ndarray, most: int) -> None:
    assert metrics.best_labels(scores, most).tolist() == [best_of(row, most) for row in scores]


@settings(deadline=None)
@given(tables(distinct=True), st.integers(1, 9))
def test_gap_ranks_the_best_labels_of_all_videos(table: tuple[np.ndarray, np.ndarray], top_k: int) -> None:
    scores, truth = table
    assert metrics.global_average_precision(scores, truth, top_k) == pytest.approx(naive_gap(scores, truth, top_k))


@settings(deadline=None)
@given(tables(distinct=True), st.integers(1, 9))
def test_map_is_the_mean_over_labels_of_their_rankings(table: tuple[np.ndarray, np.ndarray], top_k: int) -> None:
    scores, truth = table
    rows = [sorted(range(len(row)), key=lambda label, row=row: (-row[label], label))[:top_k] for row in scores]
    each = []
    for label in range(scores.shape[1]):
        among = [video for video, best in enumerate(rows) if label in best]
        among.sort(key=lambda video, label=label: -scores[video, label])
        each.append(ap_of_order([truth[video, label] for video in among], int(truth[:, label].sum())))
    assert metrics.label_average_precisions(scores, truth, top_k) == pytest.approx(np.array(each))
    assert metrics.mean_average_precision(scores, truth, top_k) == pytest.approx(np.mean(each))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.booleans()), min_size=1, max_size=6))
def test_equal_scores_count_as_the_mean_over_all_their_orders(items: list[tuple[float, bool]]) -> None:
    positives = sum(hit for _, hit in items)
    orders = [
        ap_of_order([hit for _, hit in order], positives)
        for order in itertools.permutations(items)
        if all(first[0] >= second[0] for first, second in itertools.pairwise(order))
    ]
    scores, truth = np.array([score for score, _ in items]), np.array([hit for _, hit in items])
    assert metrics.average_precision(scores, truth, positives) == pytest.approx(np.mean(orders))


@settings(deadline=None)
@given(tables())
def test_hit_at_one_and_perr_look_at_each_video_alone(table: tuple[np.ndarray, np.ndarray]) -> None:
    scores, truth = table
    hits, precisions = [], []
    for row, real in zip(scores, truth, strict=True):
        order = sorted(range(len(row)), key=lambda label: (-row[label], label))
        hits.append(bool(real[order[0]]))
        taken = order[: int(real.sum())]
        right = [label for label in taken if real[label] and row[label] > 0]
        precisions.append(len(right) / len(taken) if taken else 0.0)
    assert metrics.hit_at_one(scores, truth) == pytest.approx(np.mean(hits))
    assert metrics.precision_at_equal_recall_rate(scores, truth) == pytest.approx(np.mean(precisions))


@settings(deadline=None)
@given(tables())
def test_every_metric_lies_between_0_and_1(table: tuple[np.ndarray, np.ndarray]) -> None:
    for metric in (
        metrics.global_average_precision,
        metrics.mean_average_precision,
        metrics.hit_at_one,
        metrics.precision_at_equal_recall_rate,
    ):
        assert 0 <= metric(*table) <= 1 + 1e-9


def test_true_labels_outside_the_top_k_lower_the_gap() -> None:
    scores = np.linspace(1, 0.5, 25, dtype=np.float32)[None]
    truth = np.zeros((1, 25), np.bool_)
    truth[0, [0, 24]] = True
    assert metrics.global_average_precision(scores, truth) == pytest.approx(0.5)


def test_a_label_without_a_positive_counts_as_0_and_a_video_without_a_label_is_a_miss() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2]], np.float32)
    truth = np.array([[True, False], [False, False]])
    assert metrics.label_average_precisions(scores, truth).tolist() == [1.0, 0.0]
    assert metrics.hit_at_one(scores, truth) == 0.5
    assert metrics.precision_at_equal_recall_rate(scores, truth) == 0.5
    assert metrics.global_average_precision(scores, np.zeros_like(truth)) == 0.0


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2), np.bool_), "found"),
        (np.zeros((0, 3)), np.zeros((0, 3), np.bool_), "found"),
        (np.full((1, 2), np.nan), np.zeros((1, 2), np.bool_), "NaN"),
        (np.zeros((1, 2)), np.zeros((1, 2)), "bool"),
    ],
)
def test_tables_that_do_not_fit_are_refused(scores: np.ndarray, truth: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.global_average_precision(scores, truth)
