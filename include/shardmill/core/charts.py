"""Charts: where lines, bars and ticks of an SVG picture go. Pure geometry; colours and words are the page's."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Point = tuple[float, float]


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
    rough = max(span / steps, sys.float_info.min)
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def line_chart(
    series: Mapping[str, Sequence[Point]], width: int = 520, height: int = 240, *, top_value: float | None = None
) -> LineChart | None:
    """Lay out series of points (step, value at least 0); None where there is nothing to show.

    A series ends before its first value that is not finite.

    Args:
        top_value: what the axis reaches to, above or at all values; None for the next round number.
    """
    drawn = {name: points for name, found in series.items() if (points := _finite(found))}
    if not drawn:
        return None
    left, right, top, bottom = 44.0, width - 12.0, 12.0, height - 34.0
    steps = [step for points in drawn.values() for step, _ in points]
    highest = max(value for points in drawn.values() for _, value in points) if top_value is None else top_value
    y_step = round_step(highest, 5) if highest > 0 else 1.0
    y_max = y_step * max(1, math.ceil(highest / y_step - 1e-9))

    def x_of(step: float) -> float:
        share = (step - min(steps)) / (max(steps) - min(steps)) if max(steps) > min(steps) else 0.5
        return round(left + (right - left) * share, 1)

    def y_of(value: float) -> float:
        return round(bottom - (bottom - top) * value / y_max, 1)

    return LineChart(
        *(width, height, left, right, top, bottom),
        lines=tuple(
            _line(name, [(x_of(step), y_of(value)) for step, value in points], points[-1][1])
            for name, points in drawn.items()
        ),
        x_ticks=tuple(Tick(x_of(step), f"{step:g}") for step in _round_steps(min(steps), max(steps))),
        y_ticks=tuple(Tick(y_of(y_step * n), f"{y_step * n:g}") for n in range(round(y_max / y_step) + 1)),
    )


def unit_curve(points: Sequence[Point], size: float) -> str:
    """Give the SVG ``points`` of a curve in a square: both coordinates from 0 to 1, the origin at the lower left."""
    return " ".join(f"{round(x * size, 1):g},{round((1 - y) * size, 1):g}" for x, y in points)


def _line(name: str, places: Sequence[Point], last: float) -> Line:
    return Line(name, " ".join(f"{x:g},{y:g}" for x, y in places), *places[-1], last)


def _finite(points: Sequence[Point]) -> list[Point]:
    end = next((index for index, (_, value) in enumerate(points) if not math.isfinite(value)), len(points))
    return list(points[:end])


def _round_steps(first: float, last: float) -> list[float]:
    if last <= first:
        return [first]
    apart = max(1.0, round_step(last - first, 8))
    rounded = [apart * count for count in range(math.ceil(first / apart), math.floor(last / apart) + 1)]
    return rounded if rounded[0] - first < apart / 2 else [first, *rounded]


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
