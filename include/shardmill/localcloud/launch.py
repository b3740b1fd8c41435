"""Start the local AWS as a child, for tests and for whoever needs it for a while."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shardmill.adapters.process import start_child

ENDPOINT_FILE = "endpoint.json"
_START_SECONDS = 120.0
_STOP_SECONDS = 15.0


class LocalCloudError(RuntimeError):
    """The local AWS did not come up; the message holds its last lines."""


@dataclass(frozen=True)
class LocalCloud:
    """A local AWS that runs."""

    endpoint: str
    pid: int
    state_dir: Path

    def environment(self) -> dict[str, str]:
        """Give the variables by which the AWS SDKs find it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@contextmanager
def local_cloud(
    state_dir: Path, slots: int = 2, *, port: int = 0, cluster_python: Path | None = None
) -> Iterator[LocalCloud]:
    """Run the local AWS on a folder, and end it and all of its processes.

    Args:
        state_dir: keeps S3's content; taken up again by the next start.
        slots: Spark workers of each cluster.
        port: 0 for a free one.
        cluster_python: Python of driver and executors; by default that of the cluster environment beside ours.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    log_path = state_dir / "localcloud.log"
    argv = [sys.executable, "-m", "shardmill.localcloud", "--state", str(state_dir)]
    argv += ["--slots", str(slots), "--port", str(port)]
    argv += ["--cluster-python", str(cluster_python)] if cluster_python else []
    with log_path.open("ab") as log:
        process = start_child(
            argv,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        yield _wait_for(process, state_dir, log_path)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()  # its guardian ends what it leaves behind
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], state_dir: Path, log_path: Path) -> LocalCloud:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            found = json.loads((state_dir / ENDPOINT_FILE).read_text())
        except FileNotFoundError:
            found = {}
        if found.get("pid") != process.pid:  # not there yet, or left by a start that was killed
            time.sleep(0.05)
            continue
        return LocalCloud(found["endpoint"], found["pid"], state_dir)
    lines = log_path.read_text(errors="replace").splitlines()[-10:]
    raise LocalCloudError("the local AWS did not come up: " + " | ".join(lines))
