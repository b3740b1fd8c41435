"""Charts: where lines, bars and ticks of an SVG picture go. Pure geometry; colours and words are the page's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MAX_LINES = 5
"""More series than this are shown as their mean, lowest and highest."""


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: its place in the picture and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """A series as an SVG ``points`` attribute, with the place and the value of its last point."""

    name: str
    points: str
    end_x: float
    end_y: float
    last: float
    label_y: float
    """Where its name is written without touching another's."""


@dataclass(frozen=True)
class LineChart:
    """A line chart's geometry; the plot area lies between ``left``, ``right``, ``top`` and ``bottom``."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def round_step(span: float, steps: int) -> float:
    """Give the round number (1, 2 or 5 times a power of ten) that cuts a span into at most ``steps`` parts."""
    rough = span / steps
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def gather_lines(series: Mapping[str, Sequence[float]], most: int = MAX_LINES) -> dict[str, list[float]]:
    """Keep a few series as they are; give the mean, the lowest and the highest of many.

    Points that are not finite are dropped from where they first occur: a diverged line ends there.
    """
    finite: dict[str, list[float]] = {}
    for name, values in series.items():
        end = next((index for index, value in enumerate(values) if not math.isfinite(value)), len(values))
        finite[name] = [float(value) for value in values[:end]]
    finite = {name: values for name, values in finite.items() if values}
    if len(finite) <= most:
        return finite
    columns = list(zip(*finite.values(), strict=False))
    return {
        f"mean of {len(finite)}": [sum(column) / len(column) for column in columns],
        "highest": [max(column) for column in columns],
        "lowest": [min(column) for column in columns],
    }


def line_chart(series: Mapping[str, Sequence[float]], width: int = 640, height: int = 260) -> LineChart | None:
    """Lay out series of values above 0, one a step, over their steps 1, 2, …; None where there is nothing to show."""
    drawn = gather_lines(series)
    if not drawn:
        return None
    left, right, top, bottom = 48.0, width - 96.0, 12.0, height - 34.0
    steps = max(len(values) for values in drawn.values())
    highest = max(max(values) for values in drawn.values())
    y_step = round_step(highest, 5) if highest > 0 else 1.0
    y_max = y_step * max(1, math.ceil(highest / y_step - 1e-9))

    def place(index: int, value: float) -> tuple[float, float]:
        x = left + (right - left) * (index / (steps - 1) if steps > 1 else 0.5)
        return round(x, 1), round(bottom - (bottom - top) * value / y_max, 1)

    ends = [place(len(values) - 1, values[-1]) for values in drawn.values()]
    lines = []
    for (name, values), (x, y), label_y in zip(
        drawn.items(), ends, spread_labels([y for _, y in ends], 15.0), strict=True
    ):
        points = " ".join("{:g},{:g}".format(*place(index, value)) for index, value in enumerate(values))
        lines.append(Line(name, points, x, y, values[-1], label_y))
    y_ticks = [Tick(place(0, y_step * count)[1], f"{y_step * count:g}") for count in range(round(y_max / y_step) + 1)]
    return LineChart(
        width, height, left, right, top, bottom, tuple(lines), _step_ticks(steps, left, right), tuple(y_ticks)
    )


def _step_ticks(steps: int, left: float, right: float) -> tuple[Tick, ...]:
    if steps == 1:
        return (Tick((left + right) / 2, "1"),)
    apart = max(1, int(round_step(steps, 8)))
    shown = sorted({1, *range(apart, steps + 1, apart)})
    return tuple(Tick(round(left + (right - left) * (step - 1) / (steps - 1), 1), str(step)) for step in shown)


def spread_labels(places: Sequence[float], apart: float) -> list[float]:
    """Move labels down until none is nearer than ``apart`` to the one above it; the order is kept."""
    moved = [0.0] * len(places)
    floor = -math.inf
    for index in sorted(range(len(places)), key=lambda index: places[index]):
        moved[index] = max(places[index], floor)
        floor = moved[index] + apart
    return moved


@dataclass(frozen=True)
class Bar:
    """A horizontal bar: its name, its value (None: unknown) and its length as a share of the longest possible."""

    name: str
    value: float | None
    share: float
    main: bool = False
    note: str = ""


def bars(values: Mapping[str, float | None], *, longest: float, main: str = "") -> tuple[Bar, ...]:
    """Make bars of values; ``longest`` is the value of a full bar, ``main`` the name of the one that stands out."""
    return tuple(
        Bar(
            name, value, min(1.0, max(0.0, value / longest)) if value is not None and longest > 0 else 0.0, name == main
        )
        for name, value in values.items()
    )
