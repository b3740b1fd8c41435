"""Metric sums against the metrics of all videos at once, and what they keep in memory."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shardmill.core import metric_sums, metrics, score_cells
from shardmill.core.metric_sums import Metrics, MetricSums
from shardmill.core.score_cells import ScoreCells, no_cells, place_keys, places

Table = tuple[np.ndarray, np.ndarray]
TIED = st.sampled_from([-0.0, 0.0, 2.0**-100, 0.25, 0.5, 0.75, 1 - 2**-24, 1.0])


@st.composite
def tables(draw: st.DrawFn) -> Table:
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 30)))
    elements = draw(st.sampled_from([TIED, st.floats(0, 1, width=32)]))
    return draw(arrays.arrays(np.float32, shape, elements=elements)), draw(arrays.arrays(np.bool_, shape))


def summed(batches: Iterable[Table], labels: int, top_k: int = metrics.TOP_K) -> MetricSums:
    sums = MetricSums(labels, top_k=top_k)
    for scores, truth in batches:
        sums.add(scores, truth)
    return sums


def check_equal(found: Metrics, scores: np.ndarray, truth: np.ndarray, top_k: int = metrics.TOP_K) -> None:
    assert found.videos == len(truth)
    assert found.loss == pytest.approx(metrics.binary_cross_entropy(scores, truth))
    assert found.gap == pytest.approx(metrics.global_average_precision(scores, truth, top_k))
    assert found.map == pytest.approx(metrics.mean_average_precision(scores, truth, top_k))
    assert found.label_average_precisions == pytest.approx(metrics.label_average_precisions(scores, truth, top_k))
    assert found.hit_at_1 == pytest.approx(metrics.hit_at_one(scores, truth))
    assert found.perr == pytest.approx(metrics.precision_at_equal_recall_rate(scores, truth))
    assert found.positives.tolist() == truth.sum(axis=0).tolist()


@settings(deadline=None)
@given(tables(), st.integers(1, 25))
def test_the_metrics_of_few_videos_are_exact(table: Table, top_k: int) -> None:
    found = summed([table], table[0].shape[1], top_k).finish()
    check_equal(found, *table, top_k)
    assert (found.gap_margin, found.map_margin) == (0, 0)


@pytest.mark.parametrize("videos", [12, 61, 304, 999])
def test_a_perfect_ranking_is_not_better_than_one(videos: int) -> None:
    truth = np.arange(12)[None, :] == (np.arange(videos) % 12)[:, None]
    # Few distinct scores: a score's many predictions are all right, or all wrong.
    scores = np.where(truth, 0.9 - np.arange(videos)[:, None] % 7 / 100, 0.1).astype(np.float32)
    sums = MetricSums(12)
    sums.add(scores, truth)
    found = sums.finish()
    assert found.gap <= 1 and found.map is not None and found.map <= 1
    assert (found.gap, found.map) == pytest.approx((1, 1))


@settings(deadline=None)
@given(st.lists(tables(), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_batches_and_the_way_that_sums_are_merged_change_nothing(batches: list[Table], order: object) -> None:
    labels = min(scores.shape[1] for scores, _ in batches)
    cut = [(scores[:, :labels], truth[:, :labels]) for scores, truth in batches]
    whole = summed(cut, labels)
    parts = [MetricSums.from_bytes(summed([batch], labels).to_bytes()) for batch in cut]
    order.shuffle(parts)
    merged = sum(parts[1:], start=parts[0])
    scores, truth = (np.concatenate(tables) for tables in zip(*cut, strict=True))
    for sums in (whole, merged):
        check_equal(sums.finish(), scores, truth)


@settings(deadline=None)
@given(arrays.arrays(np.float32, st.integers(1, 40), elements=TIED | st.floats(0, 1, width=32)))
def test_the_place_of_a_score_keeps_order_and_equality(scores: np.ndarray) -> None:
    found = places(scores)
    assert (found >= 0).all() and (found < 2**31).all()
    assert ((scores[:, None] < scores) == (found[:, None] < found)).all()
    assert ((scores[:, None] == scores) == (found[:, None] == found)).all()


def cells_of(capacities: list[int], rankings: np.ndarray, scores: np.ndarray, hits: np.ndarray) -> ScoreCells:
    return no_cells(np.array(capacities)).count(place_keys(rankings, scores), hits)


@st.composite
def rankings(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    size = draw(st.integers(1, 60))
    scores = draw(arrays.arrays(np.float32, size, elements=TIED | st.floats(0, 1, width=32)))
    return draw(arrays.arrays(np.int64, size, elements=st.integers(0, 2))), scores, draw(arrays.arrays(np.bool_, size))


@settings(deadline=None)
@given(rankings(), st.lists(st.integers(2, 20), min_size=3, max_size=3))
def test_a_full_ranking_is_as_near_as_its_margin_says(table: tuple[np.ndarray, ...], capacities: list[int]) -> None:
    which, scores, hits = table
    cells = cells_of(capacities, which, scores, hits)
    positives = np.bincount(which, weights=hits, minlength=3).astype(np.int64)
    found, margins = cells.average_precisions(positives)
    for ranking, (value, margin) in enumerate(zip(found, margins, strict=True)):
        mine = which == ranking
        exact = metrics.average_precision(scores[mine], hits[mine], int(positives[ranking]))
        assert abs(value - exact) <= margin + 1e-12
        if len(set(scores[mine].tolist())) <= capacities[ranking]:
            assert (margin, cells.shifts[ranking]) == (0, 0)


def ap_of_order(hits: Iterable[bool], positives: int) -> float:
    found, total = 0, 0.0
    for rank, hit in enumerate(hits, start=1):
        found += hit
        total += found / rank if hit else 0.0
    return total / positives if positives else 0.0


@settings(deadline=None)
@given(rankings(), st.integers(2, 6))
def test_the_margin_is_that_of_the_best_and_the_worst_order_within_the_cells(
    table: tuple[np.ndarray, ...], capacity: int
) -> None:
    _, scores, hits = table
    ranking = np.zeros(len(scores), np.int64)
    cells = cells_of([capacity], ranking, scores, hits)
    positives = int(hits.sum())
    (value,), (margin,) = cells.average_precisions(np.array([positives]))
    shift = int(cells.shifts[0])
    keys = (place_keys(ranking, scores) >> shift).tolist()
    items = list(zip(keys, hits.tolist(), strict=True))
    best, worst = (
        ap_of_order([hit for _, hit in sorted(items, key=lambda item: (-item[0], first * item[1]))], positives)
        for first in (-1, 1)
    )
    assert worst - 1e-9 <= value <= best + 1e-9
    assert margin == pytest.approx(max(best - value, value - worst) if shift else 0.0, abs=1e-9)


@settings(deadline=None)
@given(rankings(), st.integers(0, 60), st.lists(st.integers(2, 20), min_size=3, max_size=3))
def test_what_is_kept_does_not_depend_on_who_counted_what(
    table: tuple[np.ndarray, ...], cut: int, capacities: list[int]
) -> None:
    whole = cells_of(capacities, *table)
    first, second = (cells_of(capacities, *(array[part] for array in table)) for part in (slice(cut), slice(cut, None)))
    for merged in (first + second, second + first):
        for field in ("shifts", "keys", "counts", "hits"):
            assert getattr(merged, field).tolist() == getattr(whole, field).tolist()


@settings(deadline=None)
@given(rankings(), st.integers(0, 60), st.lists(st.integers(2, 20), min_size=3, max_size=3), st.integers(1, 2))
def test_rankings_may_be_worked_on_in_blocks(
    table: tuple[np.ndarray, ...], cut: int, capacities: list[int], block: int
) -> None:
    positives = np.array([3, 2, 60])

    def both() -> ScoreCells:
        first, second = (
            cells_of(capacities, *(array[part] for array in table)) for part in (slice(cut), slice(cut, 60))
        )
        return first + second

    whole = both()
    expected = whole.average_precisions(positives)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_cells, "_BLOCK", block)
        blocks = both()
        found = blocks.average_precisions(positives)
    for field in ("shifts", "keys", "counts", "hits"):
        assert getattr(blocks, field).tolist() == getattr(whole, field).tolist()
    assert np.array(found) == pytest.approx(np.array(expected))


def batches_of_random(videos: int, labels: int, seed: int, size: int = 500) -> Iterator[Table]:
    """Scores that tell something, many of them tied; some videos and some labels have nothing true."""
    random = np.random.default_rng(seed)
    share = 0.5 / np.arange(1, labels + 1, dtype=np.float32)
    frequent = np.log(share / (1 - share))
    for start in range(0, videos, size):
        shape = (min(size, videos - start), labels)
        truth = random.random(shape, np.float32) < share
        truth[random.random(len(truth)) < 0.05] = False
        truth[:, labels // 2] = False
        noise = random.standard_normal(shape, np.float32)
        scores = 1 / (1 + np.exp(-(frequent + noise + 4 * truth)))
        yield np.where(noise > 1, np.round(scores, 2), scores).astype(np.float32), truth


class Exact:
    """The metrics by the definition, from all predictions kept."""

    def __init__(self, labels: int) -> None:
        self.kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.positives = np.zeros(labels, np.int64)

    def add(self, scores: np.ndarray, truth: np.ndarray) -> None:
        best = np.argsort(-scores, axis=1, kind="stable")[:, : metrics.TOP_K]
        kept = (best, np.take_along_axis(scores, best, 1), np.take_along_axis(truth, best, 1))
        self.kept.append(tuple(array.ravel() for array in kept))
        self.positives += truth.sum(axis=0)

    def finish(self) -> tuple[float, float]:
        labels, scores, hits = (np.concatenate(arrays) for arrays in zip(*self.kept, strict=True))
        order = np.argsort(labels, kind="stable")
        bounds = np.searchsorted(labels[order], np.arange(len(self.positives) + 1))
        by_label = [
            metrics.average_precision(scores[mine], hits[mine], int(found))
            for mine, found in zip(
                (order[start:stop] for start, stop in itertools.pairwise(bounds)),
                self.positives,
                strict=True,
            )
        ]
        return metrics.average_precision(scores, hits, int(self.positives.sum())), float(np.mean(by_label))


def check_near(videos: int, labels: int) -> MetricSums:
    sums, exact = MetricSums(labels), Exact(labels)
    for scores, truth in batches_of_random(videos, labels, seed=labels):
        sums.add(scores, truth)
        exact.add(scores, truth)
    found, (gap, mean) = sums.finish(), exact.finish()
    assert abs(found.gap - gap) <= min(1e-4, found.gap_margin + 1e-9)
    assert abs(found.map - mean) <= min(1e-4, found.map_margin + 1e-9)
    assert 0.2 < gap < 0.99
    return sums


def test_many_predictions_in_small_memory_are_within_a_ten_thousandth(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, cells in (("ALL_CELLS", 4096), ("LABEL_CELLS", 40_960), ("_WAITING", 4096)):
        monkeypatch.setattr(metric_sums, name, cells)
    assert check_near(4_000, 20).finish().gap_margin > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("labels", [20, 3862])
def test_a_million_predictions_are_within_a_ten_thousandth(labels: int) -> None:
    sums = check_near(50_000, labels)
    assert sums.finish().gap_margin > 0
    assert len(sums.to_bytes()) < 55e6


def test_what_is_kept_does_not_grow_with_the_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, cells in (("ALL_CELLS", 2048), ("LABEL_CELLS", 1024), ("LEAST_LABEL_CELLS", 128), ("_WAITING", 1024)):
        monkeypatch.setattr(metric_sums, name, cells)
    most = 24 * (2048 + 20 * 128) + 4096
    sizes = [len(summed(batches_of_random(videos, 20, seed=1), 20).to_bytes()) for videos in (1_000, 10_000)]
    assert max(sizes) <= most
    assert min(sizes) > most / 3


def test_sums_without_labels_rank_all_predictions_only() -> None:
    (table,) = batches_of_random(200, 30, seed=2)
    sums = MetricSums(30, by_label=False)
    sums.add(*table)
    found = MetricSums.from_bytes(sums.to_bytes()).finish()
    assert found.gap == pytest.approx(metrics.global_average_precision(*table))
    assert (found.map, found.map_margin, len(found.label_average_precisions)) == (None, None, 0)


def test_truth_may_be_numbers() -> None:
    (table,) = batches_of_random(50, 8, seed=3)
    assert summed([(table[0], table[1].astype(np.float32))], 8).to_bytes() == summed([table], 8).to_bytes()


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.full((2, 3), np.nan, np.float32), "NaN"),
        (np.full((2, 3), 1.5, np.float32), "from 0 to 1"),
        (np.full((2, 4), 0.5, np.float32), "found"),
        (np.zeros((0, 3), np.float32), "found"),
    ],
)
def test_batches_that_do_not_fit_are_refused(scores: np.ndarray, message: str) -> None:
    sums = MetricSums(3)
    with pytest.raises(ValueError, match=message):
        sums.add(scores, np.zeros((len(scores), 3), np.bool_))
    assert sums.videos == 0


def test_nothing_to_measure_and_sums_of_other_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="expected scores of videos"):
        MetricSums(3).finish()
    with pytest.raises(ValueError, match="same labels"):
        _ = MetricSums(3) + MetricSums(4)
    truth = np.ones((1, 4), np.bool_)
    with pytest.raises(ValueError, match="expected scores of 3 labels"):
        MetricSums(3).add(np.full((1, 4), 0.5, np.float32), truth)


def test_bytes_that_are_no_sums_are_refused_and_nothing_is_unpickled() -> None:
    hostile = io.BytesIO()
    np.savez(hostile, shape=np.array([print], dtype=object))
    short = io.BytesIO()
    with np.load(io.BytesIO(MetricSums(3).to_bytes())) as found:
        np.savez(short, **{**found, "positives": np.zeros(2, np.int64)})
    other = io.BytesIO()
    with np.load(io.BytesIO(MetricSums(3).to_bytes())) as found:
        np.savez(other, **{**found, "cells": np.zeros((3, 2), np.float32)})
    for content in (b"PK", b"", hostile.getvalue(), short.getvalue(), other.getvalue()):
        with pytest.raises(ValueError, match=r"metric sums|allow_pickle"):
            MetricSums.from_bytes(content)
