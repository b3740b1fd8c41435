from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shardmill.localcloud.cluster_table import ClusterTable
from shardmill.localcloud.emr_api import EmrApi
from shardmill.localcloud.image_refusals import Image
from shardmill.localcloud.refusals import Holdings
from shardmill.localcloud.seed import ACCESS_KEY, client
from shardmill.localcloud.server import REGION, CloudServer

IMAGE = "ami-0123456789abcdef0"
HOLDINGS = Holdings({IMAGE: Image(20)}, frozenset({"EMR_DefaultRole"}), frozenset({"EMR_EC2_DefaultRole"}))


class Served:
    """A server in this process, without an agent: clusters stay where the test puts them."""

    def __init__(self, folder: Path) -> None:
        self.now = 1000.0
        self.table = ClusterTable(clock=lambda: self.now)
        self.server = CloudServer(EmrApi(self.table, lambda: HOLDINGS, REGION), folder, 0)
        self.connection: dict[str, Any] = {
            "endpoint_url": self.server.endpoint,
            "region_name": REGION,
            "aws_access_key_id": ACCESS_KEY,
            "aws_secret_access_key": ACCESS_KEY,
        }
        self.s3: Any = client("s3", self.server.endpoint)
        self.emr: Any = client("emr", self.server.endpoint)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[], Served]]:
    """Start a server on this test's folder; called again it is a restart: what was in memory is forgotten."""
    from moto.s3.models import s3_backends

    backend = s3_backends["123456789012"]["aws"]
    started: list[Served] = []

    def start() -> Served:
        for served in started:
            served.server.close()
        started.clear()
        backend.reset()
        started.append(Served(tmp_path / "s3"))
        return started[0]

    yield start
    for served in started:
        served.server.close()
    backend.reset()
