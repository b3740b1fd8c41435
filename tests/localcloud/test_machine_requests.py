from __future__ import annotations

from datetime import datetime

import pytest

from shardmill.localcloud.machine_requests import Answer, answer, delay_of, span_of

NOON = datetime(2026, 11, 21, 12, 0)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("shutdown now", 0.0),
        ("shutdown -h now", 0.0),
        ("shutdown -h +5", 300.0),
        ("shutdown +0", 0.0),
        ("shutdown -P 3", 180.0),
        ("shutdown", 60.0),
        ("shutdown -h 12:30", 1800.0),
        ("shutdown 11:59", 86_340.0),
        ("poweroff", 0.0),
        ("halt -p", 0.0),
        ("init 0", 0.0),
        ("systemctl poweroff", 0.0),
        ("systemctl --no-block halt", 0.0),
    ],
)
def test_every_way_to_shut_down_is_due_when_it_says(words, seconds):
    assert answer(words.split(), NOON).shut_down_in == seconds


@pytest.mark.parametrize(
    "words", ["shutdown -k now", "shutdown -r now", "poweroff -w", "init 3", "systemctl daemon-reload", "dnf -y update"]
)
def test_what_does_not_end_the_machine_does_not(words):
    assert answer(words.split(), NOON) == Answer()


def test_a_shutdown_can_be_taken_back_and_a_bad_time_is_refused():
    assert answer(["shutdown", "-c"], NOON).cancel
    refused = answer(["shutdown", "-h", "soon"], NOON)
    assert (refused.status, refused.shut_down_in) == (1, None)
    assert "soon" in refused.message


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("5min", 300), ("1h 30min", 5400), ("2h30m", 9000), ("0.5", 0.5)]
)
def test_spans_of_time_are_read_as_systemd_reads_them(text, seconds):
    assert span_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 weeks!", "5parsecs"])
def test_what_is_no_span_of_time_is_refused(text):
    with pytest.raises(ValueError):
        span_of(text)
    assert answer(["systemd-run", f"--on-active={text}", "true"], NOON).status == 1


@pytest.mark.parametrize(
    ("words", "command", "seconds"),
    [
        ("systemd-run --on-active=30 /sbin/shutdown -h now", ("/sbin/shutdown", "-h", "now"), 30.0),
        ("systemd-run --on-active 30 --unit x -p A=b true", ("true",), 30.0),
        ("systemd-run --unit=x -- sleep 1", ("sleep", "1"), 0.0),
        ("systemd-run sleep --on-active=9", ("sleep", "--on-active=9"), 0.0),
        ("sudo -E -u root dnf install x", ("dnf", "install", "x"), None),
    ],
)
def test_what_runs_another_program_names_it_and_when(words, command, seconds):
    found = answer(words.split(), NOON)
    assert (found.command, found.in_seconds) == (command, seconds)


def test_a_unit_that_is_not_there_is_neither_enabled_nor_active():
    assert answer(["systemctl", "is-enabled", "--quiet", "amazon-ssm-agent"], NOON).status == 1
    assert answer(["systemctl", "is-active", "x"], NOON).status == 3
    assert answer(["systemctl", "disable", "--now", "x"], NOON).status == 0


def test_a_clock_time_that_is_over_means_tomorrow():
    assert delay_of("12:00", NOON) == 86_400.0
