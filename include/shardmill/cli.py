"""``shardmill JOB …``: every job runs without Airflow, on a host, in a container or as a Spark step."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from shardmill import cli_clusters, cli_lake, cli_plan, cli_predict, stages

TRAINING_JOBS = ("train", "evaluate")
SPLIT_JOB = "split_on_cluster"
COMMANDS = {**cli_plan.COMMANDS, **cli_lake.COMMANDS, **cli_clusters.COMMANDS, **cli_predict.COMMANDS}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one job; its exit status says whether it succeeded."""
    parser = argparse.ArgumentParser(prog="shardmill", description=__doc__)
    jobs = parser.add_subparsers(dest="job", required=True, metavar="JOB")
    for name in stages.STAGES:
        stage = jobs.add_parser(name, help=f"do the stage {name} for shards of a run")
        stage.add_argument("spec", help="URI of the run's spec.json")
        stage.add_argument("shards", nargs="*", type=int, help="numbers of shards or files; none for all of the run's")
    for name in TRAINING_JOBS:
        jobs.add_parser(name, help=f"{name} a run's model, inside spark-submit").add_argument("spec", help="URI")
    jobs.add_parser(SPLIT_JOB, help="split a run's shards, inside spark-submit").add_argument("spec", help="URI")
    jobs.add_parser("report", help="write a run's report").add_argument("spec", help="URI of the run's spec.json")
    for name, command in COMMANDS.items():
        command.arguments(jobs.add_parser(name, help=command.help))
    sample = jobs.add_parser("sample", help="generate the labelled sample shards")
    sample.add_argument("folder", type=Path)
    records = jobs.add_parser("sample-records", help="generate the sample of records, in train/ and validate/")
    records.add_argument("folder", type=Path)
    try:
        return _run(parser.parse_args(argv))
    except BrokenPipeError:  # who reads has enough, e.g. `shardmill urls … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _run(asked: argparse.Namespace) -> int:
    if asked.job in COMMANDS:
        return COMMANDS[asked.job].run(asked)
    if asked.job in TRAINING_JOBS:
        return int(importlib.import_module(f"shardmill.jobs.{asked.job}").main([asked.spec]))
    if asked.job == SPLIT_JOB:
        from shardmill.jobs import split_on_cluster

        return split_on_cluster.main([asked.spec], split_on_cluster.Splitting(split_one, stages.hopeless_errors))
    if asked.job == "sample":
        from shardmill.jobs.sample import make_sample

        make_sample(asked.folder)
    elif asked.job == "sample-records":
        from shardmill.jobs.sample_records import put_record_sample

        put_record_sample(asked.folder.resolve().as_uri())
    elif asked.job == "report":
        from shardmill.jobs.report import write_report

        opened = stages.open_run(asked.spec)
        print(write_report(opened.lake, opened.run, ()))
    else:
        opened = stages.open_run(asked.spec)
        stages.STAGES[asked.job](opened, asked.shards or opened.numbers, _say)
    return 0


def split_one(spec_uri: str, shard: int, workers: int, say: stages.Say) -> str:
    """Split one shard of a run, where a task of Spark does it."""
    return stages.split(replace(stages.open_run(spec_uri), workers=workers), [shard], say)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
