from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardmill.core.grid import decode_times, exact_seconds, key_times, last_length, plan_clips

TWO = Fraction(2)


def test_25_frames_a_second_give_50_frames_a_clip():
    plans = plan_clips(range(0, 125 * 512, 512), Fraction(1, 12800), TWO, 512)
    assert [(plan.number, len(plan.times), plan.length) for plan in plans] == [
        (0, 50, 25600),
        (1, 50, 25600),
        (2, 25, 12800),
    ]


def test_a_frame_on_the_border_begins_the_next_clip_and_one_a_tick_before_it_does_not():
    plans = plan_clips([0, 179_999, 180_000], Fraction(1, 90_000), TWO, 3000)
    assert [plan.times for plan in plans] == [(0, 179_999), (0,)]
    assert plans[0].length == 180_000


def test_29_97_frames_a_second_stay_on_the_grid_for_hours():
    hours = 3 * 3600 * 30000 // 1001
    plans = plan_clips(range(0, hours * 1001, 1001), Fraction(1, 30000), TWO, 1001)
    assert [plan.number for plan in plans] == list(range(len(plans)))
    for plan in plans[:-1]:
        assert 0 <= plan.start - plan.number * 60000 < 1001
        assert abs(plan.length - 60000) <= 1001


def test_the_grid_begins_with_the_first_frame_wherever_the_source_starts_its_clock():
    here = plan_clips([0, 500, 2000, 3999], Fraction(1, 1000), TWO, 40)
    there = plan_clips([-700, -200, 1300, 3299], Fraction(1, 1000), TWO, 40)
    assert [(plan.number, plan.times, plan.length) for plan in here] == [
        (plan.number, plan.times, plan.length) for plan in there
    ]


def test_a_span_without_frames_has_no_clip_and_the_clip_before_it_ends_with_its_span():
    plans = plan_clips([0, 1000, 6500, 6600], Fraction(1, 1000), TWO, 100)
    assert [(plan.number, plan.length) for plan in plans] == [(0, 2000), (3, 200)]


def test_a_last_frame_lasts_no_longer_than_any_before_it_whatever_the_file_declares():
    assert last_length([0, 40, 80], Fraction(1, 1000), TWO, 3_600_000) == 40
    assert last_length([0, 40, 100], Fraction(1, 1000), TWO, 50) == 50
    assert last_length([0, 40, 100], Fraction(1, 1000), TWO, 0) == 60
    assert last_length([0], Fraction(1, 1000), TWO, 3_600_000) == 2000
    assert last_length([0], Fraction(1, 1000), TWO, 0) == 40


def test_key_times_are_never_behind_their_frame():
    base = Fraction(1001, 30000)
    plans = plan_clips(range(200), base, TWO, 1)
    assert key_times(plans, base) == ("2.002000", "4.004000", "6.006000")
    plans = plan_clips([-300_000, -60_001, 0], Fraction(1, 90_000), TWO, 0)
    assert key_times(plans, Fraction(1, 90_000)) == ("-0.666678",)
    assert Fraction("-0.666678") <= Fraction(-60_001, 90_000)


def test_a_clip_length_is_the_number_that_was_written():
    assert exact_seconds(1.7) == Fraction(17, 10)
    assert exact_seconds(2.0) == 2


@given(
    gaps=st.lists(st.integers(1, 5000), max_size=200),
    base=st.sampled_from([Fraction(1, 1000), Fraction(1, 90_000), Fraction(1001, 30000), Fraction(1, 12_288)]),
    clip=st.sampled_from([Fraction(2), Fraction(17, 10), Fraction(1, 3)]),
    first=st.integers(-1000, 100_000),
)
def test_each_frame_is_in_exactly_one_clip_and_clips_never_overlap(gaps, base, clip, first):
    ticks = [first]
    for gap in gaps:
        ticks.append(ticks[-1] + gap)
    plans = plan_clips(ticks, base, clip, 0)
    assert [plan.start + time for plan in plans for time in plan.times] == ticks
    for plan in plans:
        shown = [(plan.start - first + time) * base for time in plan.times]
        assert all(plan.number * clip <= time < (plan.number + 1) * clip for time in shown)
        assert plan.times[0] == 0
        assert plan.length > plan.times[-1]
    longest = max(gaps, default=0) * base
    for plan, following in pairwise(plans):
        assert plan.start + plan.length <= following.start
        assert plan.number < following.number
        assert abs(plan.length * base - clip) <= max(longest, base)


@pytest.mark.parametrize("declared", [0, 1, 10**12])
def test_a_video_of_one_frame_is_one_clip(declared):
    (plan,) = plan_clips([77], Fraction(1, 1000), TWO, declared)
    assert (plan.number, plan.start, plan.times) == (0, 77, (0,))
    assert 1 <= plan.length <= 2000


@given(st.lists(st.integers(-1000, 1000), unique=True, max_size=40))
def test_frames_are_decoded_in_order_and_never_later_than_shown(shown):
    decoded = decode_times(shown)
    assert all(before < after for before, after in pairwise(decoded))
    assert all(turn <= time for turn, time in zip(decoded, shown, strict=True))
    assert not shown or any(turn == time for turn, time in zip(decoded, shown, strict=True))
    assert len({time - turn for turn, time in zip(decoded, sorted(shown), strict=True)}) <= 1
