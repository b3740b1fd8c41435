"""The clusters of a run: what each is for, what it is called, whether it is needed, and how a job is run on it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk.exceptions import AirflowSkipException

if TYPE_CHECKING:
    from shardmill.adapters.store import StoreSettings
    from shardmill.core.spark_settings import SparkLayout
    from shardmill.specs.cluster import BootstrapAction, ClusterSpec
    from shardmill.specs.run import RunSpec
    from shardmill.specs.train_on_records import TrainOnRecordsSpec
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


def check_records_reach(asked: TrainOnRecordsSpec) -> None:
    """Refuse a run whose cluster could not read its records: its nodes have the role of the cluster and no more.

    Raises:
        BadRequestError: naming the field.
    """
    from shardmill.core.planning import BadRequestError

    if asked.copies:
        return
    for name in ("source", "validation_source"):
        uri = getattr(asked, name)
        if asked.source_connection or (uri and not uri.startswith("s3://")):
            raise BadRequestError(
                f"{name}: the cluster reads s3:// by the role of its nodes only, found {uri}: take ingest=copy"
            )


def cluster_name(folder: str, work: Work = "train") -> str:
    """Name a run's cluster; every try of every task of the run finds it by this name.

    Two installations in one account may have runs of the same name, in lakes of their own: so a hash of the run's
    folder is part of it. No run's name holds a colon, so that no two clusters of any two runs have the same one.

    Args:
        folder: URI of the run's folder.
        work: what the cluster does.
    """
    name = f"shardmill-{folder.rpartition('/')[2]}-{hashlib.sha256(folder.encode()).hexdigest()[:6]}"
    return name if work == "train" else f"{name}:{work}"


def folder_of(spec_uri: str) -> str:
    """Read the URI of a run's folder from that of its spec.json, without asking the lake."""
    return spec_uri.rpartition("/")[0]


def run_of(spec_uri: str) -> str:
    """Read a run's name from the URI of its spec.json, without asking the lake."""
    return folder_of(spec_uri).rpartition("/")[2]


def cluster_spec(run: RunSpec, work: Work, image_id: str, region: str, deadline: datetime | None = None) -> ClusterSpec:
    """Make the spec of a run's cluster.

    Its nodes fetch scripts when they boot: ``code_archive.ship_scripts`` must have put them into the lake before.

    Raises:
        BadRequestError: naming the field.
    """
    from shardmill.adapters.code_archive import EVENT_LOGS
    from shardmill.core.planning import BadRequestError
    from shardmill.specs.cluster import ClusterSpec
    from shardmill.specs.mistakes import MistakesError, read_spec

    asked = run.on_cluster
    shared = set(ClusterSpec.model_fields) & set(type(asked).model_fields)
    values: dict[str, Any] = {name: getattr(asked, name) for name in shared}
    if work == "split":
        video = run.video_pipeline
        values |= {"core_type": video.split_type, "core_count": video.split_count}
        values |= {"spot_count": video.split_spot_count, "spot_types": ""}
    values |= {
        "name": cluster_name(run.folder, work),
        "run": run.run,
        "folder": run.folder,
        "work": work,
        "image_id": image_id,
        "region": region,
        "log_uri": f"{run.folder}/logs",
        "event_logs": f"{asked.lake}/{EVENT_LOGS}",
        "deadline": (deadline or datetime.now(UTC) + timedelta(hours=asked.max_hours)).isoformat(timespec="seconds"),
    }
    try:
        cluster = read_spec(ClusterSpec, values)
    except MistakesError as error:
        raise BadRequestError(str(error)) from error
    return cluster.model_copy(update={"bootstrap": _bootstrap(cluster, asked.lake)})


def _bootstrap(cluster: ClusterSpec, lake_uri: str) -> tuple[BootstrapAction, ...]:
    from shardmill.adapters.code_archive import script_uris
    from shardmill.core.emr_request import node_scripts
    from shardmill.specs.cluster import BootstrapAction

    uris = script_uris(lake_uri)
    scripts = node_scripts(cluster.deadline, gpus=cluster.schedules_gpus)
    return tuple(
        BootstrapAction(name=name.removesuffix(".sh").replace("_", " "), path=uris[name], arguments=arguments)
        for name, arguments in scripts.items()
    )


def note_request(opened: OpenRun, work: Work) -> None:
    """Note in the run's folder that a cluster is about to be asked for: the next thing is to send the request."""
    name = cluster_name(opened.run.folder, work)
    opened.lake.put(f"runs/{opened.run.run}/{_asked(work)}", name.encode())


def asked_since(spec_uri: str, work: Work, moment: float, settings: StoreSettings | None = None) -> bool:
    """Say whether a cluster was asked for since a moment, in seconds since 1970. Raises StoreError."""
    from shardmill.adapters.store import Store

    note = Store(folder_of(spec_uri), settings).head(_asked(work))
    return note is not None and note.modified >= moment


def _asked(work: Work) -> str:
    return f"asked/{work}"


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

    if run.pipeline != "video_pipeline":
        raise AirflowSkipException("there are no videos to cut")
    if run.video.where != "cluster":
        raise AirflowSkipException("where: videos are cut by Airflow's workers")
    if lake.head(f"runs/{run.run}/{RESULT}"):
        return "every shard is split"
    if not shards_to_split(run, opened.plan):
        raise AirflowSkipException("nothing to do: every shard was split when the run was planned")
    return ""


def spark_layout(run: RunSpec, work: Work, ec2: Any) -> SparkLayout:
    """Lay Spark out on the nodes of a run's cluster: executors, settings, and both in words.

    Raises:
        BadRequestError, RefusedError: the work does not fit the nodes, or EC2 knows no such type; names the field.
    """
    from shardmill.adapters.emr import node_size
    from shardmill.core import spark_settings as spark
    from shardmill.specs.spark_conf import parse_spark_conf

    asked = run.on_cluster
    field, kind, count = "core_type", asked.core_type, asked.core_count + asked.spot_count
    if work == "split":
        video = run.video_pipeline
        field, kind, count = "split_type", video.split_type, video.split_count + video.split_spot_count
    kinds = {kind: field}
    if work == "train" and asked.spot_count:
        kinds |= {spot: "spot_types" for spot in asked.spot_types.split(",") if spot and spot != kind}
    sizes = [node_size(ec2, name, where) for name, where in kinds.items()]
    nodes = spark.Nodes(
        spark.smallest(sizes),
        count,
        " or ".join(kinds),
        node_size(ec2, asked.master_type, "master_type"),
        asked.master_type,
    )
    if work == "split":
        layout = spark.splitting_layout(nodes)
        return spark.overridden(layout, parse_spark_conf(run.video_pipeline.split_spark_conf), "split_spark_conf")
    layout = spark.training_layout(asked.training, nodes)
    return spark.overridden(layout, parse_spark_conf(asked.spark_conf), "spark_conf")


def executors(run: RunSpec, work: Work, ec2: Any) -> tuple[int, Mapping[str, str]]:
    """Give how many executors a step asks for, and Spark's settings of it. Raises as ``spark_layout`` does."""
    layout = spark_layout(run, work, ec2)
    if work == "train":
        return layout.executors, layout.settings
    passed = {f"spark.executorEnv.{name}": os.environ[name] for name in _PASSED_ON if name in os.environ}
    return layout.executors, {**layout.settings, **passed}


def lasting_failure(opened: OpenRun, work: Work) -> bool:
    """Say whether the job did all it could before it failed, its own tries of each shard included."""
    if work == "train":
        return False
    from shardmill.jobs.split_on_cluster import FAILURES

    return opened.lake.head(f"runs/{opened.run.run}/{FAILURES}") is not None
