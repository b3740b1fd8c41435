"""The steps of a cluster, as plain values for AddJobFlowSteps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from shardmill.core.planning import BadRequestError

STEP_SLACK = timedelta(minutes=1)
"""A step ends so long before its cluster's deadline: there is time to put its logs away."""
KILL_SECONDS = 60
"""A step that does not end when it is asked to is killed so many seconds later."""
_MINUTE = 60


def seconds_left(deadline: datetime, now: datetime) -> int:
    """Give how long a step may run on a cluster with a deadline, in whole minutes, at least one.

    Both times carry their zones. The very end is the node's own timer's: a step with less than a minute gets one.
    """
    left = int((deadline - now - STEP_SLACK).total_seconds())
    return max(left // _MINUTE, 1) * _MINUTE


def spark_step(
    name: str,
    *,
    code: tuple[str, str],
    arguments: Sequence[str],
    workers: int,
    settings: Mapping[str, str] | None = None,
    seconds: int | None = None,
) -> dict[str, Any]:
    """Give one step of AddJobFlowSteps: spark-submit of a job of this package.

    Args:
        name: deterministic, so that a retry finds the step of its first try.
        code: URIs of the package's zip and of the entry script.
        arguments: what follows the script, e.g. ``("train", "s3://…/spec.json")``.
        workers: executors to ask for, one task each.
        settings: of Spark, for this step.
        seconds: after which ``timeout`` ends the step, with status 124; None for no limit of its own.
    """
    package, script = code
    conf = [part for key, value in sorted((settings or {}).items()) for part in ("--conf", f"{key}={value}")]
    submit = ["spark-submit", "--deploy-mode", "client", "--master", "yarn", "--num-executors", str(workers)]
    return _step(name, [*submit, *conf, "--name", name, "--py-files", package, script, *arguments], seconds)


def dist_cp_step(
    name: str, source: str, target: str, *, pattern: str = "", seconds: int | None = None
) -> dict[str, Any]:
    """Give a step that copies a folder of the lake into the cluster's HDFS, by all of its nodes.

    EMR installs ``s3-dist-cp`` with Hadoop: ``applications`` must name it. What is there already is overwritten.

    Args:
        source: a folder at ``s3://``.
        target: a folder at ``hdfs:///``.
        pattern: a Java regular expression that the whole URI of an object must match; empty for all objects.
        seconds: as for ``spark_step``.

    Raises:
        BadRequestError: names the wrong field.
    """
    if not source.startswith("s3://"):
        raise BadRequestError(f"source: s3-dist-cp copies from s3:// here, found {source}")
    bucket = source.removeprefix("s3://").partition("/")[0]
    if "_" in bucket:
        raise BadRequestError(f"source: s3-dist-cp cannot read a bucket with an underscore in its name, found {bucket}")
    _check_hdfs(target)
    chosen = [f"--srcPattern={pattern}"] if pattern else []
    return _step(name, ["s3-dist-cp", f"--src={source}", f"--dest={target}", *chosen], seconds)


def hdfs_uri(uri: str, source: str, target: str) -> str:
    """Give where ``dist_cp_step`` puts an object of ``source``. Raises BadRequestError where it is not in there."""
    _check_hdfs(target)
    folder = f"{source.rstrip('/')}/"
    if not uri.startswith(folder):
        raise BadRequestError(f"{uri} is not in {source}, which is what is copied into HDFS")
    return f"{target.rstrip('/')}/{uri.removeprefix(folder)}"


def _check_hdfs(target: str) -> None:
    if re.fullmatch(r"hdfs:///[A-Za-z0-9._/-]+", target) is None or ".." in target.split("/"):
        raise BadRequestError(f"target: expected hdfs:///folder of the cluster's own HDFS, found {target}")


def _step(name: str, command: Sequence[str], seconds: int | None) -> dict[str, Any]:
    limit = ["timeout", "-k", str(KILL_SECONDS), str(seconds)] if seconds is not None else []
    return {
        "Name": name,
        "ActionOnFailure": "CONTINUE",
        "HadoopJarStep": {"Jar": "command-runner.jar", "Args": [*limit, *command]},
    }
