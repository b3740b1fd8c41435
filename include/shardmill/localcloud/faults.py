"""Switch faults of a local EMR on and off: for tests, and for whoever wants to see what happens then."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from shardmill.localcloud.fault_state import FAULTS_PATH, FaultsError

_SECONDS = 10.0


def set_faults(endpoint: str, faults: Sequence[Mapping[str, Any]]) -> None:
    """Have a local EMR misbehave from now on, in these ways and no others.

    Args:
        endpoint: of the local AWS, such as ``http://127.0.0.1:5600``.
        faults: each with its ``kind`` and the fields of ``fault_state.Fault``, such as
            ``{"kind": "throttle", "operations": ["DescribeCluster"], "seconds": 5}``.

    Raises:
        FaultsError: a fault is wrong; those that were on stay on.
    """
    _ask(endpoint, "PUT", json.dumps([dict(fault) for fault in faults]))


def clear_faults(endpoint: str) -> None:
    """Switch all faults off. What they did stays: a cluster without Spark never gets it."""
    set_faults(endpoint, [])


def list_faults(endpoint: str) -> list[dict[str, Any]]:
    """List what is on; ``struck`` tells how often, ``over`` that it strikes no more."""
    found: list[dict[str, Any]] = json.loads(_ask(endpoint, "GET", None))
    return found


def _ask(endpoint: str, method: str, body: str | None) -> bytes:
    address = urlsplit(endpoint)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_SECONDS)
    try:
        connection.request(method, FAULTS_PATH, body)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise FaultsError(f"{endpoint} answered {answer.status}: {content.decode(errors='replace').strip()}")
    return content
