"""Operators for EMR clusters that never outlive their run, and for the steps on them."""

from __future__ import annotations

from shardmill_airflow.cluster_tasks import CreateCluster, DeleteCluster
from shardmill_airflow.step_tasks import RunJob

__all__ = ["CreateCluster", "DeleteCluster", "RunJob"]
