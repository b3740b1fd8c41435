from __future__ import annotations

from shardmill.core.pcm import PcmTrack


def test_what_was_added_is_taken_once():
    track = PcmTrack(2)
    track.append(0, b"aabbcc")
    assert track.end == 3
    assert track.take(0, 2) == b"aabb"
    assert track.take(2, 3) == b"cc"
    assert track.take(2, 3) == b""


def test_a_track_that_begins_late_is_silent_until_then():
    track = PcmTrack(2)
    track.append(3, b"dd")
    assert track.take(1, 4) == b"\0\0\0\0dd"


def test_a_hole_is_filled_and_what_comes_twice_is_taken_once():
    track = PcmTrack(2)
    track.append(0, b"aa")
    track.append(2, b"cc")
    track.append(2, b"xxdd")
    assert track.take(0, 4) == b"aa\0\0ccdd"


def test_a_span_behind_the_end_has_no_sound():
    track = PcmTrack(2)
    track.append(0, b"aabb")
    assert track.take(1, 5) == b"bb"
    assert track.take(5, 9) == b""


def test_what_comes_for_a_span_that_was_taken_is_dropped():
    track = PcmTrack(2)
    assert track.take(0, 3) == b""
    track.append(1, b"bbccdd")
    assert track.take(3, 5) == b"dd"


def test_samples_before_the_span_are_forgotten():
    track = PcmTrack(2)
    track.append(-2, b"yyzzaabb")
    assert track.take(0, 2) == b"aabb"


def test_a_hole_of_hours_takes_no_memory():
    track = PcmTrack(2)
    track.append(0, b"aabb")
    track.append(10**10, b"cc")
    assert (track.held, track.end) == (6, 10**10 + 1)
    assert track.take(1, 3) == b"bb\0\0"
    assert track.take(10**10 - 1, 10**10 + 5) == b"\0\0cc"


def test_what_is_not_wanted_is_not_kept():
    track = PcmTrack(2)
    track.forget(1000)
    for first in range(0, 1000, 10):
        track.append(first, bytes(20))
    assert (track.held, track.end) == (0, 1000)
    track.append(995, b"xx" * 5 + b"aa")
    assert track.take(1000, 1001) == b"aa"


def test_a_span_between_two_sounds_is_silent_and_one_behind_both_has_none():
    track = PcmTrack(2)
    track.append(0, b"aa")
    track.append(9, b"jj")
    assert track.take(3, 5) == bytes(4)
    assert track.take(20, 25) == b""
