from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardmill.core.labels import LabelError, LabelTable, parse_label_csv

words = st.text(st.characters(categories=["L", "N", "P"], exclude_characters="|"), min_size=1, max_size=12)


@pytest.mark.parametrize("header", ["", "video_id,labels\r\n", "\ufeffVideo_ID, labels\n"])
def test_a_header_may_be_there_or_not(header):
    assert parse_label_csv(header + "-ab,cat|dog\nx_y,cat\n") == {"-ab": ("cat", "dog"), "x_y": ("cat",)}


def test_quoted_cells_and_blank_lines_are_read():
    assert parse_label_csv('v,"Cats, big|Dogs ""small"""\r\n\r\nw,a\r\n') == {
        "v": ("Cats, big", 'Dogs "small"'),
        "w": ("a",),
    }


@given(st.dictionaries(words, st.lists(words, min_size=1, max_size=3, unique=True), max_size=5))
def test_what_a_csv_writer_wrote_is_read(rows):
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("video_id", "labels"), *((video, "|".join(row)) for video, row in rows.items())])
    assert parse_label_csv(text.getvalue()) == {video: tuple(row) for video, row in rows.items()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,x\nb\n", "line 2: expected two cells"),
        ("a,x,y\n", "line 1: expected two cells"),
        ("video_id,labels\n,x\n", "line 2: expected a video id"),
        ("a,x||y\n", "line 1: expected ids and labels of 1 to 200"),
        ("a,x\n\na,y\n", "line 3: 'a' was named before"),
        ('a,"x\n', "line 1: expected a line of CSV"),
        ("a,\x1b[31m\n", "line 1: expected ids and labels"),
    ],
)
def test_an_error_names_the_line(text, message):
    with pytest.raises(LabelError, match=message):
        parse_label_csv(text)


def test_the_vocabulary_is_every_label_once_in_order():
    table = LabelTable.from_csv("v,dog|cat|dog\nw,ant\nunlabelled,\n")
    assert table.vocabulary == ("ant", "cat", "dog")
    assert table.labels_of("v") == (1, 2)
    assert table.names_of("v") == ("cat", "dog")
    assert table.labels_of("unlabelled") == table.labels_of("unknown") == ()


def test_the_digest_follows_the_content_and_not_its_order():
    one = LabelTable.from_rows({"a": ["x", "y"], "b": ["z"]})
    assert one.digest == LabelTable.from_rows({"b": ["z"], "a": ["y", "x"], "c": []}).digest
    assert one.digest != LabelTable.from_rows({"a": ["x"], "b": ["z", "y"]}).digest
