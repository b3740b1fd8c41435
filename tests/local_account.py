"""The local AWS as an account, without an agent: it holds what a run's clusters need, and nothing ever runs on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shardmill.localcloud.cluster_table import ClusterTable
from shardmill.localcloud.emr_api import EmrApi
from shardmill.localcloud.seed import client as client_of
from shardmill.localcloud.seed import seed
from shardmill.localcloud.server import REGION, CloudServer, account_holdings

Clients = Callable[[str], Any]


def trust_of(*services: str) -> str:
    """Write a trust policy."""
    statement = {"Effect": "Allow", "Principal": {"Service": list(services)}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@contextmanager
def local_account(folder: Path) -> Iterator[tuple[Clients, ClusterTable]]:
    """Serve the account; give clients by the name of their service, and the table of its clusters."""
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.ec2.models import ec2_backends
    from moto.iam.models import iam_backends
    from moto.s3.models import s3_backends

    backends: list[Any] = [backend[DEFAULT_ACCOUNT_ID]["aws"] for backend in (s3_backends, iam_backends)]
    backends.append(ec2_backends[DEFAULT_ACCOUNT_ID][REGION])
    for backend in backends:
        backend.reset()
    table = ClusterTable()
    server = CloudServer(EmrApi(table, account_holdings, REGION), folder, 0)
    clients: dict[str, Any] = {}

    def client(service: str, **_: Any) -> Any:
        return clients.setdefault(service, client_of(service, server.endpoint))

    try:
        seed(server.endpoint)
        yield client, table
    finally:
        server.close()
        for backend in backends:
            backend.reset()
