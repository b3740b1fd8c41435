"""What a browser asks for, as its pages tell and as its own log of the network tells."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

STAYS_INSIDE = ("about", "blob", "chrome", "data", "devtools", "file")
"""Schemes that ask no other machine."""


def leaves_the_machine(url: str) -> bool:
    """Say whether a request for a URL would go to another machine; a name of a host counts as one."""
    parts = urlsplit(url)
    if parts.scheme in STAYS_INSIDE:
        return False
    return not _is_loopback(parts.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Traffic:
    """All requests of a browser's pages; and of the browser itself, once it has ended."""

    def __init__(self, net_log: Path) -> None:
        self.net_log = net_log
        self.urls: list[str] = []

    def asked_for(self, url: str) -> None:
        self.urls.append(url)

    def outside(self) -> list[str]:
        """Give the requests of pages that would have left the machine."""
        return [url for url in self.urls if leaves_the_machine(url)]

    def connected(self) -> list[str]:
        """Give the addresses to which the browser, its own services included, connected or tried to, by its log."""
        return sorted(set(self._told("TCP_CONNECT_ATTEMPT", "address")))

    def connected_outside(self) -> list[str]:
        """Give those of them that are of other machines."""
        return [address for address in self.connected() if leaves_the_machine(f"http://{address}")]

    def _told(self, event: str, parameter: str) -> Iterator[str]:
        log: dict[str, Any] = json.loads(self.net_log.read_text())
        number = log["constants"]["logEventTypes"][event]
        for one in log["events"]:
            if one["type"] == number and parameter in one.get("params", {}):
                yield one["params"][parameter]
