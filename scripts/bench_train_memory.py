"""Measure the memory of training with all 3,862 labels, on so many records and on ten times as many.

    .local/airflow/bin/python scripts/bench_train_memory.py --records 400

One epoch of the default model by two workers, on frame-level records of 60 to 300 frames. The last line is JSON: the
peak of all processes together (driver, Java and workers, in MB, by their proportional set sizes), for each size.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from bench_train_data import make_records
from bench_train_runs import Asked, Outcome, run_job
from shardmill.specs.records import RecordSet
from shardmill.specs.training import TrainSpec

CACHE = Path(__file__).resolve().parent.parent / ".local" / "bench"
LABELS, TIMES = 3862, 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=400, help="of the smaller set")
    parser.add_argument("--trainer", default=TrainSpec().trainer)
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the records are kept")
    asked = parser.parse_args()
    found = {}
    for count in (asked.records, asked.records * TIMES):
        few = make_records(asked.cache / f"train-{count}", count, max(count // 5, 1))
        outcome = train(few, asked.trainer)
        found[count] = {"peak_rss_mb": round(outcome.rss), "wall_s": round(outcome.wall, 1)}
        print(f"{count} records: {found[count]}", file=sys.stderr, flush=True)
    print(json.dumps({"labels": LABELS, "workers": 2, "trainer": asked.trainer, "records": found}))
    return 0


def train(records: RecordSet, trainer: str) -> Outcome:
    """Train for one epoch; what labels the records do not have are there all the same."""
    names = (*records.vocabulary, *(f"label {number}" for number in range(len(records.vocabulary), LABELS)))
    training = TrainSpec.model_validate({"trainer": trainer, "workers": 2, "epochs": 1})
    folder = Path(tempfile.mkdtemp(prefix="bench-train-"))
    try:
        return run_job(Asked(trainer, records.model_copy(update={"vocabulary": names}), training), folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
