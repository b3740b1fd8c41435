from __future__ import annotations

from collections.abc import Iterator

import pytest
from kills.airflow_lab import AirflowLab, airflow_lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowLab]:
    with airflow_lab(tmp_path_factory.mktemp("kills") / "state") as started:
        yield started
