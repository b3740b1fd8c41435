"""What counts as a request that leaves the machine."""

from __future__ import annotations

import json

import pytest
from browser.traffic import Traffic, leaves_the_machine


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/ui/config",
        "http://[::1]:5600/x",
        "ws://localhost:8080/",
        "data:video/mp4;base64,AA==",
        "blob:http://127.0.0.1:8080/1",
        "file:///tmp/report.html",
    ],
)
def test_what_stays_on_the_machine(url):
    assert not leaves_the_machine(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://fonts.example.com/a.woff2",
        "http://192.168.1.2/",
        "http://127.0.0.1.example.com/",
        "http://localhost.example.com/",
        "wss://example.com/",
        "http://10.0.0.1:80",
    ],
)
def test_what_leaves_it(url):
    assert leaves_the_machine(url)


def test_a_connection_of_the_browser_itself_to_another_machine_is_named(tmp_path):
    log = tmp_path / "net-log.json"
    addresses = ["127.0.0.1:8080", "[::1]:1", "203.0.113.7:443", "203.0.113.7:443"]
    events = [{"type": 7, "params": {"address": address}} for address in addresses]
    other = [{"type": 7}, {"type": 8, "params": {"address": "198.51.100.1:80"}}]
    log.write_text(json.dumps({"constants": {"logEventTypes": {"TCP_CONNECT_ATTEMPT": 7}}, "events": events + other}))
    traffic = Traffic(log)
    assert traffic.connected_outside() == ["203.0.113.7:443"]
    assert len(traffic.connected()) == 3
