from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardmill.core import charts

values = st.floats(min_value=0, max_value=1e9, allow_nan=False)


@given(st.lists(st.lists(values, min_size=1, max_size=30), min_size=1, max_size=5))
def test_every_point_and_tick_lies_inside_the_plot(series):
    chart = charts.line_chart({str(i): list(enumerate(found)) for i, found in enumerate(series)})

    for line in chart.lines:
        for x, y in (map(float, place.split(",")) for place in line.points.split()):
            assert chart.left - 0.1 <= x <= chart.right + 0.1
            assert chart.top - 0.1 <= y <= chart.bottom + 0.1
    assert 2 <= len(chart.y_ticks) <= 7
    assert all(chart.left - 0.1 <= tick.at <= chart.right + 0.1 for tick in chart.x_ticks)


def test_a_line_goes_down_in_the_picture_where_its_values_fall():
    chart = charts.line_chart({"loss": [(0, 0.7), (1, 0.3), (2, 0.1)]})

    heights = [float(place.split(",")[1]) for place in chart.lines[0].points.split()]
    assert heights == sorted(heights)
    assert chart.lines[0].last == 0.1
    assert [tick.text for tick in chart.x_ticks] == ["0", "1", "2"]


def test_a_diverged_series_ends_before_its_first_value_that_is_no_number():
    chart = charts.line_chart({"bad": [(1, 0.5), (2, float("nan")), (3, 0.4)], "good": [(1, 0.5), (2, 0.4), (3, 0.3)]})

    assert [len(line.points.split()) for line in chart.lines] == [1, 3]


def test_nothing_to_draw_is_no_chart():
    assert charts.line_chart({}) is None
    assert charts.line_chart({"empty": [], "bad": [(1, float("inf"))]}) is None


def test_one_point_stands_in_the_middle():
    chart = charts.line_chart({"loss": [(1, 0.5)]})

    assert chart.lines[0].end_x == (chart.left + chart.right) / 2
    assert [tick.text for tick in chart.x_ticks] == ["1"]


@pytest.mark.parametrize(("span", "steps", "step"), [(1.0, 5, 0.2), (12, 8, 2), (0.69, 5, 0.2), (1000, 8, 200)])
def test_steps_between_ticks_are_round_numbers(span, steps, step):
    assert charts.round_step(span, steps) == pytest.approx(step)


def test_a_bar_is_as_long_as_its_share_and_never_longer_than_its_track():
    made = charts.bars({"a": 0.5, "b": 2.0, "c": None, "d": -1.0}, longest=1.0, main="a")

    assert [bar.share for bar in made] == [0.5, 1.0, 0.0, 0.0]
    assert [bar.main for bar in made] == [True, False, False, False]


def test_an_axis_may_reach_to_a_value_that_is_given():
    chart = charts.line_chart({"GAP": [(0, 0.1), (1, 0.25)]}, top_value=1.0)

    assert [tick.text for tick in chart.y_ticks] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert chart.lines[0].end_y == pytest.approx(chart.bottom - 0.25 * (chart.bottom - chart.top), abs=0.1)


def test_a_curve_in_a_square_begins_at_the_lower_left():
    assert charts.unit_curve([(0, 0), (0.5, 1), (1, 0.25)], 100) == "0,100 50,0 100,75"
