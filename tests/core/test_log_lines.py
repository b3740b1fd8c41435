from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shardmill.core.log_lines import NewLines, applications, failing_first, last_lines, show


@given(st.text(alphabet="ab\n", max_size=200), st.lists(st.integers(1, 20), max_size=30))
def test_lines_are_handed_on_once_each_wherever_the_pieces_end(text, cuts):
    lines, found, rest = NewLines(), [], text.encode()
    for cut in cuts:
        lines.feed(rest[:cut])
        rest = rest[cut:]
        found += lines.take()
    lines.feed(rest)
    found += lines.take(last=True)
    expected = text.split("\n")
    assert found == (expected[:-1] if expected[-1] == "" else expected)


def test_of_many_lines_the_newest_are_shown_and_the_others_counted():
    lines = NewLines(most_lines=3)
    lines.feed(b"".join(b"%d\n" % number for number in range(10)))
    assert lines.take() == ["… 7 lines left out", "7", "8", "9"]
    lines.feed(b"10\n")
    assert lines.take() == ["10"]


def test_long_lines_are_cut_and_bytes_bounded():
    lines = NewLines(most_bytes=1000)
    lines.feed(b"x" * 5000 + b"\n" + b"y" * 400 + b"\n" + b"z" * 400 + b"\n")
    assert [len(line) for line in lines.take()[1:]] == [400, 400]


def test_a_line_without_an_end_does_not_grow_for_ever():
    lines = NewLines(most_bytes=1000)
    for _ in range(100):
        lines.feed(b"x" * 100)
    assert len(lines.take()) > 1


def test_sparks_chatter_is_left_out_of_the_last_lines():
    text = "26/11/21 10:00:00 INFO Executor: Running task\nValueError: bad\n\tat org.apache.Spark(Task.scala:1)\n\n"
    assert last_lines(text, 5) == ["ValueError: bad"]


def test_the_applications_of_yarn_and_standalone_are_found():
    texts = ["Submitted application application_1763712000000_0002", "app ID app-20261121100000-0000 app-1"]
    assert applications(texts) == ["app-20261121100000-0000", "application_1763712000000_0002"]


def test_the_executor_that_failed_comes_first_and_those_that_did_not_are_left_out():
    executors = {
        "0": "26/11/21 10:00:00 INFO Executor: fine\n",
        "1": "26/11/21 ERROR Executor: Exception in task\n",
        "2": "26/11/21 ERROR Utils: Uncaught\n",
        "3": "Traceback (most recent call last):\nValueError: bad\n",
    }
    driver = "ExecutorLostFailure (executor 2 exited caused by one of the running tasks)"
    assert failing_first(executors, driver) == ["2", "3", "1"]
    assert failing_first({"0": executors["0"]}, driver) == []


def test_parts_without_lines_are_not_shown():
    assert show([("a", ["1", "2"]), ("b", [])]) == "--- a\n1\n2"
