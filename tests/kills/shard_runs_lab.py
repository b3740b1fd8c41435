"""An Airflow with the DAGs that make records of shards, what they are asked, and what they leave behind."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kills.airflow_lab import AirflowLab, airflow_lab

from shardmill.adapters.store import Store
from shardmill.laptop.rest import ENDED
from shardmill.localcloud.launch import LocalCloud
from shardmill.specs.shard_runs import BackfillSpec, NightlySpec

PROJECT = Path(__file__).resolve().parents[2]
DAGS = ("backfill_shards", "nightly_reprocess")
AT_ONCE = 2
ANYWHERE = "file:/// s3://"
STUBS = """
from types import SimpleNamespace
from shardmill.stages import whole_shards

def _stub(*arguments):
    return lambda shard: SimpleNamespace(shard=shard, skipped=False, why="stubbed")

whole_shards.ingesting = whole_shards.splitting = whole_shards.describing = _stub
"""


@contextmanager
def shard_runs_lab(folder: Path, *more_dags: str, texts: dict[str, str] | None = None) -> Iterator[AirflowLab]:
    """Run the stack with the DAGs of shards, and one of backfills whose work takes no time, ``backfill_stubbed``.

    Args:
        more_dags: of the project, by the names of their files.
        texts: DAG files of the test's own, by name.
    """
    dags = folder / "dags"
    dags.mkdir()
    for name in (*DAGS, *more_dags):
        (dags / f"{name}.py").write_text((PROJECT / "dags" / f"{name}.py").read_text())
    for name, text in (texts or {}).items():
        (dags / f"{name}.py").write_text(text)
    head, marker, rest = (dags / "backfill_shards.py").read_text().partition("@dag(")
    stubbed = rest.replace("backfill_shards()", "backfill_stubbed()")
    (dags / "backfill_stubbed.py").write_text(head + STUBS + "\n" + marker + stubbed)
    more = {
        "SHARDMILL_LAKE_ROOTS": ANYWHERE,
        "SHARDMILL_SOURCE_ROOTS": ANYWHERE,
        "SHARDMILL_BACKFILL_TASKS": str(AT_ONCE),
    }
    with airflow_lab(folder / "state", dags, "backfill_stubbed", more) as started:
        while not all(started.api.has_dag(name) for name in (*DAGS, *more_dags, *(texts or {}))):
            time.sleep(1)
        yield started


@contextmanager
def reaching(cloud: LocalCloud) -> Iterator[None]:
    """Reach the local S3 from the test's own process, for the length of a with block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", cloud.endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_REGION", "us-east-1")
        yield


def asked_of(spec: NightlySpec | BackfillSpec) -> dict[str, object]:
    """Give what a form sends to ask for it."""
    fixed = {"pipeline", "where", *(["retry_rejects"] if isinstance(spec, NightlySpec) else [])}
    return spec.model_dump(exclude=fixed)


def wait(lab: AirflowLab, dag: str, run: str, seconds: float = 1500) -> str:
    """Wait for the end of a run; give its state."""
    give_up = time.monotonic() + seconds
    while (state := lab.api.run_state(dag, run)) not in ENDED:
        assert time.monotonic() < give_up, (state, lab.api.task_states(dag, run))
        lab.look()
        time.sleep(1)
    if state == "failed":
        _print_failures(lab, dag, run)
    return state


def _print_failures(lab: AirflowLab, dag: str, run: str) -> None:
    for task in lab.api.task_states(dag, run):
        if task.state == "failed":
            print(f"{task.name} of {run} failed:", *list(lab.api.log_lines(dag, run, task))[-20:], sep="\n  ")


def content(lake: str) -> dict[str, bytes]:
    """Manifests of raw shards and clips, and all parts; those of records name the lake that they lie in."""
    store = Store(lake)
    wanted = ("raw/", "clips/", "features/")
    keys = [item.key for item in store.list() if item.key.startswith(wanted) and "receipt" not in item.key]
    keys = [key for key in keys if "/_index" not in key]
    return {key: b"" if key.startswith("features/") and "/_manifests/" in key else store.get(key) for key in keys}


def records(lake: str) -> int:
    """Count the shards whose records are committed."""
    store = Store(lake, create=True)
    return sum("/_manifests/" in item.key for item in store.list("features"))


def cuts(lab: AirflowLab, *runs: str) -> Counter[str]:
    """Count how often each video was cut, by the logs of all tries of all tasks."""
    found: Counter[str] = Counter()
    for log in (lab.folder / "airflow" / "logs").rglob("*.log"):
        if any(run in str(log) for run in runs):
            found.update(re.findall(r"(\w+\d+): (?:\d+ clips|refused)", log.read_text()))
    return found
