"""``make demo``: run the video pipeline on one machine, on a generated sample or on shards of yours, and show it."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from shardmill.adapters.roots import SOURCES
from shardmill.adapters.run_folder import load_run
from shardmill.adapters.store import Store, StoreError
from shardmill.jobs.report import summarise
from shardmill.laptop.postgres import PostgresError
from shardmill.laptop.processes import ProcessError, Processes
from shardmill.laptop.rest import ENDED, AirflowApi, TaskState
from shardmill.laptop.sample import SAMPLE, ensure_sample, upload_sample
from shardmill.laptop.stack import (
    StackAddress,
    StackBusyError,
    default_state,
    open_api,
    running_stack,
    stack,
)

DAG = "video_pipeline"
LOG_TAIL = 30
POLL_SECONDS = 2.0
SUMMARY_KEYS = (
    "run",
    "state",
    "shards",
    "videos",
    "clips",
    "rejects",
    "gap",
    "gap_rgb_only",
    "gap_audio_only",
    "gap_shuffled_frames",
    "gap_constant",
    "map",
    "hit_at_1",
    "perr",
    "report",
    "seconds",
)


@dataclass
class Result:
    """What the demo's last line tells; None where it is unknown."""

    values: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(SUMMARY_KEYS))

    def line(self) -> str:
        return json.dumps(self.values)


def say(text: str) -> None:
    print(text, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; the exit status is 0 only where the run succeeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="", help="folder or URI of shards; empty for the generated sample")
    parser.add_argument("--labels", default="", help="CSV of video_id,label|label")
    parser.add_argument("--conf", default="{}", help="JSON of more fields of the form")
    parser.add_argument("--state", type=Path, default=default_state())
    asked = parser.parse_args(argv)
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell started us with SIGINT ignored
        signal.signal(number, _interrupt)
    result = Result()
    started = time.monotonic()
    try:
        status = _run(asked, result)
    except KeyboardInterrupt:
        say("interrupted")
        result.values["state"] = "interrupted"
        status = 130
    except (ProcessError, PostgresError, StackBusyError, StoreError, httpx.HTTPError, ValueError) as error:
        say(f"failed: {error}")
        result.values["state"] = "failed"
        status = 1
    finally:  # whatever happened, the last line is the JSON
        result.values["seconds"] = round(time.monotonic() - started, 1)
        say(result.line())
    return status


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _run(asked: argparse.Namespace, result: Result) -> int:
    conf = demo_conf(asked.source, asked.labels, json.loads(asked.conf))
    if not asked.source:
        ensure_sample(say)
    _allow(conf)
    with _any_stack(asked.state) as (address, processes):
        if not asked.source:
            upload_sample(address)
        with open_api(address, asked.state) as api:
            return _watch_run(api, address, processes, (conf, asked.state, result))


@contextmanager
def _any_stack(state: Path) -> Iterator[tuple[StackAddress, Processes | None]]:
    """Use the stack that ``make up`` started, else start one for as long as the demo takes."""
    running = running_stack(state)
    if running is not None:
        say(f"using the running stack at {running.url}")
        yield running, None
        return
    with stack(state, say) as started:
        yield started


def demo_conf(source: str, labels: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the form: for shards of yours small batches, for there may be few videos."""
    if not source:
        return {"source": SAMPLE, "batch_mb": 16, **more}
    folder = _as_uri(source)
    dataset = re.sub(r"[^a-z0-9._-]+", "-", folder.rsplit("/", 1)[-1].lower()).strip("-._") or "demo"
    own = {"source": folder, "dataset": dataset, "batch_mb": 8, "batch_size": 4}
    return {**own, **({"labels": _as_uri(labels)} if labels else {}), **more}


def _allow(conf: Mapping[str, Any]) -> None:
    """Let the stack that is started read what was asked for; one that runs already keeps what it was started with."""
    wanted = [conf["source"], *([conf["labels"]] if conf.get("labels") else [])]
    os.environ[SOURCES] = " ".join([*os.environ.get(SOURCES, "").split(), *wanted])


def _as_uri(text: str) -> str:
    return text if "://" in text else f"file://{Path(text).expanduser().resolve()}"


def _watch_run(
    api: AirflowApi, address: StackAddress, processes: Processes | None, asked: tuple[dict[str, Any], Path, Result]
) -> int:
    conf, state_folder, result = asked
    run_id = api.trigger(DAG, conf)
    result.values["run"] = run_id
    say(f"run {run_id}: {address.url}/dags/{DAG}/runs/{run_id}")
    state = watch(api, run_id, processes)
    result.values["state"] = state
    tasks = api.task_states(DAG, run_id)
    spec_uri = api.xcom(DAG, run_id, "plan", "spec_uri")
    if spec_uri:
        _summarise(str(spec_uri), address, state_folder, result)
    _print_table(result, tasks)
    if state == "success":
        return 0
    _print_failures(api, run_id, tasks)
    return 1


def watch(api: AirflowApi, run_id: str, processes: Processes | None = None) -> str:
    """Print each change of a task's state until the run has ended; give the run's state."""
    seen: dict[str, str] = {}
    started = time.monotonic()
    while True:
        state = api.run_state(DAG, run_id)
        for task in api.task_states(DAG, run_id):
            shown = task.state if task.try_number < 2 else f"{task.state} (try {task.try_number})"
            if task.state != "none" and seen.get(task.name) != shown:
                seen[task.name] = shown
                took = f" {task.seconds:.1f} s" if task.state in ("success", "failed") else ""
                say(f"  {time.monotonic() - started:6.1f} s  {task.name:16} {shown}{took}")
        if state in ENDED:
            return state
        if processes:
            processes.check()
        time.sleep(POLL_SECONDS)


def _summarise(spec_uri: str, address: StackAddress, state_folder: Path, result: Result) -> None:
    run = load_run(spec_uri, address.store_settings)
    lake = Store(run.asked.lake, address.store_settings)
    found = summarise(lake, run)
    for key in SUMMARY_KEYS:
        if key not in ("run", "state", "seconds", "report"):
            result.values[key] = getattr(found, key)
    if lake.head(f"runs/{run.run}/report.html"):
        report = state_folder.parent / "reports" / f"{run.run}.html"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_bytes(lake.get(f"runs/{run.run}/report.html"))
        result.values["report"] = str(report)


def _print_table(result: Result, tasks: Sequence[TaskState]) -> None:
    seconds: dict[str, float] = {}
    for task in tasks:
        seconds[task.task] = seconds.get(task.task, 0.0) + task.seconds
    rows = [(key, value) for key, value in result.values.items() if key != "seconds" and value is not None]
    rows += [(f"seconds in {name}", round(value, 1)) for name, value in seconds.items()]
    say("")
    for name, value in rows:
        say(f"  {name:24} {value if not isinstance(value, float) else f'{value:.4g}'}")


def _print_failures(api: AirflowApi, run_id: str, tasks: Sequence[TaskState]) -> None:
    for task in tasks:
        if task.state == "failed":
            say(f"\nfailed: {task.name}; the last lines of its log:")
            for line in list(api.log_lines(DAG, run_id, task))[-LOG_TAIL:]:
                say(f"  {line}")


if __name__ == "__main__":
    sys.exit(main())
