from __future__ import annotations

import pytest

from shardmill.core.video_keys import labels_of, printable, why_unsafe


@pytest.mark.parametrize(
    "key", ["---2pGwkL7M", "-i", "a/b", "<b>bold</b>", "$(id)", "%d", "ä ö", "a;b'c\"d", "..a", "{}"]
)
def test_odd_keys_are_kept(key):
    assert why_unsafe(key) == ""
    assert printable(key) == key


@pytest.mark.parametrize(
    "key", ["", "../x", "a/../../x", "/etc/passwd", "a//b", "a\nb", "a\0b", "\udcff", "a\\b", ".", "x" * 2000]
)
def test_keys_that_could_leave_their_folder_or_cannot_be_written_are_refused(key):
    assert why_unsafe(key)
    printable(key).encode()


def test_labels_come_from_the_first_field_that_holds_a_list_of_texts():
    assert labels_of({"labels": ["a", "b", "a"], "tags": ["c"]}) == ("a", "b")
    assert labels_of({"labels": [1], "tags": ["c"]}) == ("c",)
    assert labels_of({"labels": [], "categories": ["d"]}) == ("d",)
    assert labels_of({"labels": "text"}) == ()
    assert labels_of({}) == ()


def test_a_label_that_is_no_valid_text_can_be_stored():
    (label,) = labels_of({"labels": ["\ud800"]})
    label.encode()
