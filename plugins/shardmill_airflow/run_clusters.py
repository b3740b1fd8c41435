"""The clusters of a run: what each is for, what it is called, whether it is needed, and how a job is run on it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk.exceptions import AirflowSkipException

if TYPE_CHECKING:
    from shardmill.specs.cluster import ClusterSpec
    from shardmill.specs.run import RunSpec
    from shardmill.specs.video_pipeline import VideoPipelineSpec
    from shardmill.stages import OpenRun

Work = Literal["train", "split"]
_PASSED_ON = ("SHARDMILL_UNSANDBOXED_OK",)
"""Variables of this installation that hold on its clusters too."""


def check_reach(asked: VideoPipelineSpec) -> None:
    """Refuse a run whose cluster could not read what it needs: its nodes have the role of the cluster and no more.

    Raises:
        BadRequestError: naming the field.
    """
    from shardmill.core.planning import BadRequestError

    if asked.where != "cluster":
        return
    if asked.ingest == "reference" and (asked.source_connection or not asked.source.startswith("s3://")):
        raise BadRequestError(
            "where: a cluster reads s3:// by the role of its nodes only: take ingest=copy, or where=workers"
        )
    for name in ("labels", "extractor_weights", "projection") if asked.fused else ():
        uri = getattr(asked, name)
        if uri and not uri.startswith("s3://"):
            raise BadRequestError(f"{name}: a cluster reads s3:// only, found {uri}")


def cluster_name(run: str, work: Work = "train") -> str:
    """Name a run's cluster; every try of every task of the run finds it by this name.

    No run's name holds a colon, so that no two clusters of any two runs have the same one.
    """
    return f"shardmill-{run}" if work == "train" else f"shardmill-{run}:{work}"


def run_of(spec_uri: str) -> str:
    """Read a run's name from the URI of its spec.json, without asking the lake."""
    return spec_uri.rsplit("/", 2)[1]


def cluster_spec(run: RunSpec, work: Work, image_id: str, region: str) -> ClusterSpec:
    """Make the spec of a run's cluster."""
    from shardmill.specs.cluster import ClusterSpec

    asked = run.asked
    shared = set(ClusterSpec.model_fields) & set(type(asked).model_fields)
    values: dict[str, Any] = {name: getattr(asked, name) for name in shared}
    if work == "split":
        values |= {"core_type": asked.split_type, "core_count": asked.split_count}
    values |= {
        "name": cluster_name(run.run, work),
        "run": run.run,
        "work": work,
        "image_id": image_id,
        "region": region,
        "log_uri": f"{run.folder}/logs",
        "deadline": (datetime.now(UTC) + timedelta(hours=asked.max_hours)).isoformat(timespec="seconds"),
    }
    return ClusterSpec(**values)


def why_none(opened: OpenRun, work: Work) -> str:
    """Say why no cluster is needed for what is done already; empty where one is.

    Raises:
        AirflowSkipException: the run does not ask for this work.
    """
    lake, run = opened.lake, opened.run
    if work == "train":
        done = all(lake.head(f"runs/{run.run}/{name}") for name in ("model/model.json", "metrics.json"))
        return "the model is trained and evaluated" if done else ""
    from shardmill.jobs.split_on_cluster import RESULT, shards_to_split

    if run.asked.where != "cluster":
        raise AirflowSkipException("where: videos are cut by Airflow's workers")
    if lake.head(f"runs/{run.run}/{RESULT}"):
        return "every shard is split"
    if not shards_to_split(run, opened.plan):
        raise AirflowSkipException("nothing to do: every shard was split when the run was planned")
    return ""


def executors(run: RunSpec, work: Work, ec2: Any) -> tuple[int, Mapping[str, str]]:
    """Give how many executors a step asks for, and Spark's settings of it."""
    from shardmill.adapters.emr import node_size
    from shardmill.core.emr_request import whole_nodes

    if work == "train":
        return run.asked.workers, {}
    passed = {f"spark.executorEnv.{name}": os.environ[name] for name in _PASSED_ON if name in os.environ}
    return run.asked.split_count, whole_nodes(node_size(ec2, run.asked.split_type), run.asked.split_count) | passed


def lasting_failure(opened: OpenRun, work: Work) -> bool:
    """Say whether the job did all it could before it failed, its own tries of each shard included."""
    if work == "train":
        return False
    from shardmill.jobs.split_on_cluster import FAILURES

    return opened.lake.head(f"runs/{opened.run.run}/{FAILURES}") is not None
