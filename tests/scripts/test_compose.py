"""The compose file: nothing is published beyond loopback, no secret stands in it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import container_keys  # noqa: E402

PROCESSES_THAT_RUN_OUR_CODE = ("api-server", "scheduler", "dag-processor", "triggerer")


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]


def test_every_port_is_published_on_loopback_only(services):
    published = [port for service in services.values() for port in service.get("ports", ())]

    assert len(published) == 2
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_service_that_the_stack_needs_is_there(services):
    needed = {"postgres", "api-server", "scheduler", "dag-processor", "triggerer", "local-aws"}

    assert needed | {"spark-master", "spark-worker"} <= set(services)


def test_airflows_processes_are_started_as_on_a_laptop(services):
    from shardmill.laptop.airflow import PROCESSES

    for name, arguments in PROCESSES.items():
        assert services[name]["command"] == ["airflow", *arguments], name


def test_what_people_may_set_for_all_runs_can_be_set_from_outside(services):
    from shardmill_airflow.notifying import CHANNELS, variable_of

    for name in PROCESSES_THAT_RUN_OUR_CODE:
        environment = services[name]["environment"]
        for variable in (*map(variable_of, CHANNELS), "SHARDMILL_SOURCE_ROOTS", "SHARDMILL_LAKE_ROOTS"):
            assert environment[variable].startswith(f"${{{variable}:-"), (name, variable)


def test_workers_can_be_scaled(services):
    assert not {"container_name", "ports", "hostname"} & set(services["spark-worker"])


def test_secrets_come_from_files_only(services):
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            if any(word in name for word in ("FERNET", "SECRET", "SQL_ALCHEMY", "PASSWORD")):
                assert name.endswith(("_CMD", "_FILE")), name
                assert "/" in value


def test_what_the_images_copy_is_in_the_repository():
    copied = [line.split()[2:-1] for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("COPY")]

    for pattern in (name for names in copied for name in names):
        assert list(ROOT.glob(pattern.rstrip("/"))), pattern


def test_secrets_are_made_once_and_private(tmp_path):
    for _ in range(2):
        container_keys.make_keys(tmp_path, tmp_path, "postgres:5432/airflow")
        made = {path.name: path.read_text() for path in tmp_path.iterdir()}

    again = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert made == again
    assert set(made) == {"password", "database", "fernet", "api", "jwt", "passwords.json"}
    assert made["password"] in made["database"]
    assert len(json.loads(made["passwords.json"])["admin"]) >= 12
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.iterdir() if path.name != "password")


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed here")
def test_docker_compose_accepts_the_file():
    argv = ["docker-compose", "-f", str(ROOT / "docker-compose.yaml"), "config", "--quiet"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
