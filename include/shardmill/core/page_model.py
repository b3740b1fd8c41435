"""What the page shows of a model: its training epoch by epoch, its curves label by label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shardmill.core import charts
from shardmill.core.page import Chart, CurveRow, LabelRow
from shardmill.specs.curves import LabelCurve, LabelCurves, PrecisionRecall
from shardmill.specs.records import EpochLoss, MetricsReport

MAX_WORKER_LINES = 3
MAX_CURVES = 24
"""Labels whose curve is drawn."""
MAX_LABEL_ROWS = 500
CURVE_SIZE = 100.0
BY_EPOCH = {"validation_gap": "GAP@20", "validation_map": "mAP", "validation_hit_at_1": "Hit@1"}


def training_charts(history: Sequence[EpochLoss]) -> tuple[Chart, ...]:
    """Draw loss and metrics by epoch; what was not measured is left out."""
    scores = {title: _series(history, name) for name, title in BY_EPOCH.items()}
    drawn = (
        ("Loss by epoch", "Binary cross-entropy, lower is better.", charts.line_chart(_losses(history))),
        (
            "Scores by epoch",
            "Measured on the validation videos after each epoch, higher is better.",
            charts.line_chart(scores, top_value=1.0),
        ),
    )
    return tuple(Chart(title, meaning, chart) for title, meaning, chart in drawn if chart is not None)


def _losses(history: Sequence[EpochLoss]) -> dict[str, list[charts.Point]]:
    """Give the losses by epoch: on training and validation videos, and each worker's, or the span of many."""
    series = {"training": _series(history, "loss"), "validation": _series(history, "validation_loss")}
    told = [entry for entry in history if entry.worker_losses]
    workers = min((len(entry.worker_losses) for entry in told), default=0)
    if 1 < workers <= MAX_WORKER_LINES:
        for worker in range(workers):
            series[f"worker {worker}"] = [(entry.epoch, entry.worker_losses[worker]) for entry in told]
    elif workers > 1:
        series["worst worker"] = [(entry.epoch, max(entry.worker_losses)) for entry in told]
        series["best worker"] = [(entry.epoch, min(entry.worker_losses)) for entry in told]
    return series


def _series(history: Iterable[EpochLoss], name: str) -> list[charts.Point]:
    values = ((entry.epoch, getattr(entry, name)) for entry in history)
    return [(epoch, value) for epoch, value in values if value is not None]


def label_rows(metrics: MetricsReport, curves: LabelCurves | None) -> tuple[LabelRow, ...]:
    """List the labels with the most validation videos, the most first."""
    best = {curve.label: curve.best for curve in curves.labels} if curves else {}
    scored = sorted(metrics.labels, key=lambda score: (-score.positives, score.label))
    return tuple(
        LabelRow(
            score.label,
            score.average_precision if score.positives else None,
            score.positives,
            score.training_positives,
            best.get(score.label),
        )
        for score in scored[:MAX_LABEL_ROWS]
    )


def curve_rows(curves: LabelCurves | None, metrics: MetricsReport) -> tuple[CurveRow, ...]:
    """Draw the curve of all labels together, and of those with the most validation videos."""
    if curves is None:
        return ()
    precisions = {score.label: score.average_precision for score in metrics.labels}
    together = [_curve("all labels", curves.together, metrics.gap)] if curves.together else []
    return (*together, *(_curve(one.label, one, precisions.get(one.label)) for one in curves.labels[:MAX_CURVES]))


def _curve(name: str, found: LabelCurve, area: float | None) -> CurveRow:
    points = [(point.recall, point.precision) for point in found.points]
    # Up to the first recall, precision is at least what it is there.
    line = [(0.0, points[0][1]), *points] if points else []
    return CurveRow(name, charts.unit_curve(line, CURVE_SIZE), _place(found.best), area, found.positives)


def _place(best: PrecisionRecall | None) -> charts.Point | None:
    return (round(best.recall * CURVE_SIZE, 1), round((1 - best.precision) * CURVE_SIZE, 1)) if best else None
