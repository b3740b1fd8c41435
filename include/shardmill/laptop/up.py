"""``make up`` and ``make down``: the stack, for as long as you like."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from shardmill.adapters.store import StoreError
from shardmill.laptop.airflow import USER, keys
from shardmill.laptop.postgres import PostgresError
from shardmill.laptop.processes import ProcessError
from shardmill.laptop.sample import ensure_sample, upload_sample
from shardmill.laptop.stack import StackBusyError, default_state, stack, stop_running


def main(argv: Sequence[str] | None = None) -> int:
    """Start the stack and stay, or end the one that runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("up", "down"))
    parser.add_argument("--state", type=Path, default=default_state())
    parser.add_argument("--slots", type=int, default=2, help="cores of the local Spark cluster")
    parser.add_argument(
        "--sample", action=argparse.BooleanOptionalAction, default=True, help="put the sample of videos"
    )
    asked = parser.parse_args(argv)
    try:
        if asked.command == "down":
            stop_running(asked.state)
        else:
            _stay(asked)
    except (ProcessError, PostgresError, StackBusyError, StoreError, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    return 0


def _stay(asked: argparse.Namespace) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell started us with SIGINT ignored
        signal.signal(number, _interrupt)
    try:
        with stack(asked.state, _say, slots=asked.slots, history=True) as (address, processes):
            if asked.sample:
                ensure_sample(_say)
                upload_sample(address)
            print(f"\n  {address.url}   log in as {USER} / {keys(asked.state)['password']}", flush=True)
            print(f"  {address.history_url}  Spark's history: the applications of all clusters", flush=True)
            print("  end it by Ctrl-C or `make down`", flush=True)
            while True:
                processes.check()
                time.sleep(1.0)
    except KeyboardInterrupt:
        return


def _say(text: str) -> None:
    print(text, flush=True)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
