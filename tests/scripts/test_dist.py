"""What `make dist` makes is enough for an Airflow that has no checkout."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOOK = """
import json, sys
from pathlib import Path
import shardmill, shardmill_airflow
from shardmill.jobs.bake_image.planning import CLUSTER_LOCK
from airflow.dag_processing.dagbag import DagBag
from airflow import plugins_manager
bag = DagBag(sys.argv[1])
print(json.dumps({
    "at": [shardmill.__file__, shardmill_airflow.__file__],
    "dags": sorted(bag.dags), "errors": bag.import_errors,
    "lock": (Path(shardmill.__file__).parent / "node_scripts" / CLUSTER_LOCK).read_text()[:200],
    "plugins": sorted(plugins_manager.get_deadline_references_plugins()),
}))
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "dist.py"), "--to", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_an_airflow_without_a_checkout_reads_the_dags_and_the_plugin(dist, tmp_path):
    import json

    for name, archive in (("packages", "*.whl"), ("dags", "dags.zip"), ("plugins", "plugins.zip")):
        with zipfile.ZipFile(next(dist.glob(archive))) as opened:
            opened.extractall(tmp_path / name)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(tmp_path / "packages"),
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(tmp_path / "plugins"),
    }
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(tmp_path / "dags")],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert all(place.startswith(str(tmp_path / "packages")) for place in told["at"])
    assert told["errors"] == {}
    assert set(told["dags"]) == {path.stem for path in (ROOT / "dags").glob("*.py")}
    assert told["lock"] == (ROOT / "requirements-cluster.txt").read_text()[:200]
    assert told["plugins"] == ["shardmill_airflow.deadlines.RunDeadline"]


def test_the_wheel_holds_the_packages_whole_and_nothing_else(dist):
    (wheel,) = dist.glob("shardmill-*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    for package, folder in (("shardmill", ROOT / "include"), ("shardmill_airflow", ROOT / "plugins")):
        wanted = {
            str(path.relative_to(folder))
            for path in (folder / package).rglob("*")
            if path.is_file() and "__pycache__" not in str(path)
        }
        missing = wanted - names
        assert not missing, missing
    assert {name.split("/")[0] for name in names} == {"shardmill", "shardmill_airflow"}


def test_constraints_are_the_pins_of_the_lock(dist):
    pins = dict(line.split("==") for line in (dist / "constraints.txt").read_text().splitlines())
    lock = (ROOT / "requirements.txt").read_text()
    assert len(pins) == len(re.findall(r"^[A-Za-z0-9][^\s]*==", lock, re.MULTILINE))
    assert pins["apache-airflow"] == "3.3.2"
    asked = (dist / "requirements-airflow.txt").read_text().splitlines()
    assert asked[0] == "--constraint constraints.txt"
    assert set(asked[2:]) <= set(pins)
    assert not {"moto", "pytest", "pyspark"} & set(asked)


def test_the_sums_are_those_of_the_files(dist):
    lines = [line.split("  ") for line in (dist / "SHA256SUMS").read_text().splitlines()]
    assert {name for _, name in lines} == {path.name for path in dist.iterdir()} - {"SHA256SUMS"}
    assert all(hashlib.sha256((dist / name).read_bytes()).hexdigest() == digest for digest, name in lines)


def test_the_same_checkout_makes_the_same_files(dist, tmp_path):
    subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "dist.py"), "--to", str(tmp_path)], check=True, capture_output=True
    )
    assert (tmp_path / "SHA256SUMS").read_text() == (dist / "SHA256SUMS").read_text()
