"""What the page draws of a training."""

from __future__ import annotations

from shardmill.core.page_model import training_charts
from shardmill.specs.records import EpochLoss


def history(workers, epochs=3, **fields):
    losses = [tuple(0.5 + worker / 10 + epoch for worker in range(workers)) if epoch else () for epoch in range(epochs)]
    return [EpochLoss(epoch=n, loss=1.0 / (n + 1), worker_losses=losses[n], **fields) for n in range(epochs)]


def lines(chart):
    return {line.name: (len(line.points.split()), round(line.last, 3)) for line in chart.lines.lines}


def test_each_of_few_workers_has_a_line_and_of_many_the_best_and_the_worst():
    (few,) = training_charts(history(3))
    assert lines(few) == {"training": (3, 0.333), "worker 0": (2, 2.5), "worker 1": (2, 2.6), "worker 2": (2, 2.7)}
    (many,) = training_charts(history(16))
    assert lines(many) == {"training": (3, 0.333), "worst worker": (2, 4.0), "best worker": (2, 2.5)}


def test_one_worker_is_the_training_itself():
    (chart,) = training_charts(history(1))
    assert lines(chart) == {"training": (3, 0.333)}


def test_scores_are_drawn_where_they_were_measured():
    loss, scores = training_charts(history(0, validation_loss=0.4, validation_gap=0.7))
    assert (loss.title, scores.title) == ("Loss by epoch", "Scores by epoch")
    assert lines(scores) == {"GAP@20": (3, 0.7)}


def test_nothing_is_drawn_of_no_training():
    assert training_charts(()) == ()
