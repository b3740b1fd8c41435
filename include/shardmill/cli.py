"""``shardmill JOB …``: every job runs without Airflow, on a host, in a container or as a Spark step."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

JOBS = {
    "train": ("shardmill.jobs.train", "train the model of a run: URI of its spec.json"),
    "evaluate": ("shardmill.jobs.evaluate", "evaluate the model of a run: URI of its spec.json"),
    "split": ("shardmill.jobs.split", "split a run's shards: URI of its spec.json, and shard numbers"),
    "sample": ("shardmill.jobs.sample", "generate the labelled sample shards in a folder"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one job; its exit status says whether it succeeded."""
    described = "\n".join(f"  {name:10} {text}" for name, (_, text) in JOBS.items())
    parser = argparse.ArgumentParser(
        prog="shardmill", epilog=f"jobs:\n{described}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", choices=sorted(JOBS))
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    asked = parser.parse_args(argv)
    module = importlib.import_module(JOBS[asked.job][0])
    return int(module.main(asked.arguments))


if __name__ == "__main__":
    sys.exit(main())
