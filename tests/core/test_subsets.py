from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shardmill.core.subsets import subset_of


def test_about_the_asked_share_is_for_validation():
    subsets = [subset_of(f"video {number}", 0.2) for number in range(5000)]
    assert abs(subsets.count("validation") / 5000 - 0.2) < 0.02


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_video_stays_in_validation_when_the_share_grows(video, one, other):
    if subset_of(video, min(one, other)) == "validation":
        assert subset_of(video, max(one, other)) == "validation"


def test_the_choice_is_the_same_on_every_machine():
    assert [subset_of(video, 0.5) for video in ("-a", "b", "c", "d")] == [
        "train",
        "validation",
        "validation",
        "validation",
    ]
    assert subset_of("anything", 0.0) == "train"
