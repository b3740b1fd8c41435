"""An embedded Airflow: its environment, and the commands of its four processes."""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shardmill.adapters.roots import LAKES, SOURCES
from shardmill.adapters.sandbox import UNSANDBOXED_OK
from shardmill.laptop.postgres import connection_uri

USER = "admin"
LINEAGE = "SHARDMILL_LINEAGE"
_TAKEN_OVER = ("SHARDMILL_NOTIFY_", "AIRFLOW_CONN_")
SHARD_RUNS = ("SHARDMILL_NIGHTLY", "SHARDMILL_NIGHTLY_CRON", "SHARDMILL_BACKFILL_TASKS")
"""What scheduled nights ask, and when; how many tasks of a backfill are at work."""
SOURCE_ROOT, LAKE_ROOT = "s3://shardmill-source", "s3://shardmill-lake"
PROCESSES = {
    "api-server": ("api-server",),
    # The log servers of these two would listen on every interface; on one host the logs are read from disk.
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "triggerer": ("triggerer", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
}


@dataclass(frozen=True)
class Airflow:
    """Where an embedded Airflow lives and answers."""

    project: Path
    """The checkout: dags/ and plugins/ lie in it."""
    state: Path
    port: int
    aws_endpoint: str
    history_url: str = ""
    """Of Spark's history server, where there is one."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def free_port(wanted: int) -> int:
    """Give the wanted port of the loopback interface, or a free one where it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on the loopback interface")


def keys(state: Path) -> dict[str, str]:
    """Give the secrets of this Airflow, made at its first start and readable by nobody else."""
    path = state / "airflow" / "keys.json"
    if not path.exists():
        made = {
            "fernet": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "api": secrets.token_urlsafe(32),
            "jwt": secrets.token_urlsafe(48),
            "password": secrets.token_urlsafe(12),
        }
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_private(path, json.dumps(made))
    return dict(json.loads(path.read_text()))


def _write_private(path: Path, text: str) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    unfinished.rename(path)


def aws_connection(endpoint: str, history_url: str = "") -> str:
    """Write the connection ``aws_default`` as Airflow reads it from the environment."""
    extra = {"region_name": "us-east-1", "endpoint_url": endpoint}
    extra |= {"spark_history_url": history_url} if history_url else {}
    return json.dumps({"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra})


def environment(airflow: Airflow, caller: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Give the whole environment of Airflow's processes; the caller's names of places, locale and whom to tell."""
    home, made = airflow.state / "airflow", keys(airflow.state)
    passwords = home / "passwords.json"
    _write_private(passwords, json.dumps({USER: made["password"]}))
    own = ("HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", UNSANDBOXED_OK, *SHARD_RUNS)
    kept = {name: value for name, value in caller.items() if name in own or name.startswith(_TAKEN_OVER)}
    settings = {
        "CORE__DAGS_FOLDER": airflow.project / "dags",
        "CORE__PLUGINS_FOLDER": airflow.project / "plugins",
        "CORE__LOAD_EXAMPLES": False,
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": 4,
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
        "CORE__FERNET_KEY": made["fernet"],
        "CORE__EXECUTION_API_SERVER_URL": f"{airflow.url}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": passwords,
        "API__HOST": "127.0.0.1",
        "API__PORT": airflow.port,
        "API__WORKERS": 1,
        "API__BASE_URL": airflow.url,
        "API__SECRET_KEY": made["api"],
        "API_AUTH__JWT_SECRET": made["jwt"],
        "DAG_PROCESSOR__REFRESH_INTERVAL": 30,
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 60,
        "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": 180,
        "USAGE_DATA_COLLECTION__ENABLED": False,
        "DATABASE__SQL_ALCHEMY_CONN": connection_uri(airflow.state),
    }
    return {
        **kept,
        **{f"AIRFLOW__{name}": str(value) for name, value in (settings | _lineage(airflow.state, caller)).items()},
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_CONN_AWS_DEFAULT": aws_connection(airflow.aws_endpoint, airflow.history_url),
        SOURCES: f"{SOURCE_ROOT} {caller.get(SOURCES, '')}".strip(),
        LAKES: f"{LAKE_ROOT} {caller.get(LAKES, '')}".strip(),
        "PYTHONUNBUFFERED": "1",
    }


def _lineage(state: Path, caller: Mapping[str, str]) -> dict[str, str]:
    """Give the settings by which OpenLineage's events are written to a file, where the switch is on."""
    if caller.get(LINEAGE, "") not in ("1", "yes", "true"):
        return {}
    folder = state / "lineage"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    transport = {"type": "file", "log_file_path": str(folder / "events.jsonl"), "append": True}
    return {"OPENLINEAGE__TRANSPORT": json.dumps(transport), "OPENLINEAGE__NAMESPACE": "shardmill-laptop"}


def command(*arguments: str) -> list[str]:
    """Give the command line of an Airflow process."""
    return [sys.executable, "-m", "airflow", *arguments]
