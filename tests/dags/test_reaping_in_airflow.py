"""The reaper's DAG in an Airflow with a database, a task runner and a local AWS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import boto3
import pytest

from shardmill.core.emr_request import cluster_request
from shardmill.jobs.plan import run_name
from shardmill.localcloud.launch import local_cloud
from shardmill.localcloud.seed import IMAGE_ID
from shardmill.specs.cluster import ClusterSpec

PROJECT = Path(__file__).resolve().parents[2]
FAILED, RUNNING, ELSEWHERE = (f"manual__2026-11-21T{hour}:31:45.123456+00:00" for hour in (17, 18, 19))
RUN_DAG = """
import sys
from datetime import UTC, datetime
from airflow.utils.db import initdb
initdb()
from airflow.dag_processing.dagbag import DagBag
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from airflow.utils.types import DagRunType
with create_session() as session:
    for state, run_id in (("failed", sys.argv[2]), ("running", sys.argv[3])):
        known = {"dag_id": "video_pipeline", "run_id": run_id, "state": state, "run_type": DagRunType.MANUAL}
        session.add(DagRun(**known, logical_date=None, run_after=datetime.now(UTC)))
dag = DagBag(sys.argv[1]).dags["reap_clusters"]
for conf in ({}, {"grace_minutes": 0}):
    print("ENDED AS", dag.test(run_conf=conf).state)
"""


@pytest.mark.slow
def test_the_cluster_of_a_failed_run_is_ended_and_those_of_live_and_unknown_runs_stay(tmp_path):
    with local_cloud(tmp_path / "aws") as cloud:
        switch = json.dumps([{"kind": "no_spark"}]).encode()
        request = urllib.request.Request(f"{cloud.endpoint}/_faults", data=switch, method="PUT")  # noqa: S310
        urllib.request.urlopen(request).close()  # noqa: S310
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
        emr, s3 = (boto3.client(service, endpoint_url=cloud.endpoint, **keys) for service in ("emr", "s3"))
        ids = {run_id: make_cluster(emr, run_id) for run_id in (FAILED, RUNNING, ELSEWHERE)}

        extra = {"region_name": "us-east-1", "endpoint_url": cloud.endpoint}
        connection = {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}
        done = subprocess.run(
            [sys.executable, "-c", RUN_DAG, PROJECT / "dags" / "reap_clusters.py", FAILED, RUNNING],
            env={
                "PATH": os.environ["PATH"],
                "AIRFLOW_HOME": str(tmp_path / "airflow"),
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
                "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
                "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection),
                "SHARDMILL_LAKE_ROOTS": "s3://shardmill-lake",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=270,
        )
        assert done.stdout.count("ENDED AS success") == 2, done.stdout[-4000:] + done.stderr[-4000:]
        report = json.loads(s3.get_object(Bucket="shardmill-lake", Key="reports/clusters.json")["Body"].read())
        assert {one["id"]: one["run_is"] for one in report["alive"]} == {
            ids[RUNNING]: "live",
            ids[ELSEWHERE]: "unknown",
        }
        assert [one["cluster"]["id"] for one in report["ended"]] == [ids[FAILED]]
        states = {one["Id"]: one["Status"]["State"] for one in emr.list_clusters()["Clusters"]}
        assert states[ids[FAILED]].startswith("TERMINAT")
        assert not any(states[ids[run_id]].startswith("TERMINAT") for run_id in (RUNNING, ELSEWHERE))


def make_cluster(emr, run_id: str) -> str:
    """Make the cluster of a run as the pipeline does."""
    run = run_name(f"video_pipeline.{run_id}")
    values = {"name": f"shardmill-{run}", "run": run, "image_id": IMAGE_ID, "log_uri": "s3://shardmill-lake/logs"}
    request = cluster_request(ClusterSpec(**values, deadline="2999-01-01T00:00:00+00:00"))
    tags = {tag["Key"]: tag["Value"] for tag in request["Tags"]} | {"dag": "video_pipeline", "run_id": run_id}
    return emr.run_job_flow(**request | {"Tags": [{"Key": key, "Value": tags[key]} for key in tags]})["JobFlowId"]
