"""Hold each trainer's GAP against that of one worker, on the records of `bench-train`, with the form's model.

    .local/airflow/bin/python scripts/bench_train_gap.py --ways single,local_sgd:2,local_sgd:8 --seeds 1,2,3

Every way sees equally many examples, the same records for so many epochs, in steps of the same batch, which is shared
out among the workers, at the form's learning rate. A way is a trainer, the mode too where Elephas
trains, and behind a colon its workers; each worker is a process of one thread, more of them than cores only take
longer. With ``--kill-behind 3`` a worker gets a SIGKILL in the middle of the epoch behind the third, for a look at what
a resumed training is worth. A line for each run, then one for each way: mean GAP over the seeds and how far it is from
that of `single`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench_train_data import make_records
from bench_train_runs import Asked, end_when_told, run_job
from shardmill.specs.records import RecordSet
from shardmill.specs.training import PRECISIONS, TrainSpec

Fields = dict[str, int | str]
CACHE = Path(__file__).resolve().parent.parent / ".local" / "bench"
WAYS = (
    "single,local_sgd:2,allreduce:2,local_sgd:8,allreduce:8,one_shot_average:2"
    ",elephas-synchronous:2,elephas-asynchronous:2,elephas-hogwild:2"
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", default=WAYS)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--records", type=int, default=1200, help="to train on; a fifth as many to validate")
    parser.add_argument("--batch", type=int, default=TrainSpec().batch_size, help="of all workers together")
    parser.add_argument("--epochs", type=int, default=TrainSpec().epochs)
    parser.add_argument(
        "--precision", default="auto", choices=PRECISIONS, help="in which frames are multiplied by ours"
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the records are kept")
    parser.add_argument("--kill-behind", type=int, metavar="EPOCH", help="kill a worker in the epoch behind this one")
    asked = parser.parse_args()
    end_when_told()
    records = make_records(asked.cache / f"train-{asked.records}", asked.records, max(asked.records // 5, 1))
    found: dict[str, list[float]] = {}
    for seed in asked.seeds.split(","):
        for way in asked.ways.split(","):
            fields = {"seed": int(seed), "epochs": asked.epochs, "precision": asked.precision}
            gap = train(way, fields, asked.batch, records, asked.kill_behind)
            found.setdefault(way, []).append(gap)
            print(f"seed {seed}: {way}: GAP {gap:.4f}", file=sys.stderr, flush=True)
    means = {way: statistics.mean(gaps) for way, gaps in found.items()}
    of_one = means.get("single")
    for way, gaps in found.items():
        behind = None if of_one is None else round(means[way] - of_one, 4)
        print(json.dumps({"way": way, "gap": round(means[way], 4), "of_single": behind, "seeds": gaps}))
    return 0


def train(way: str, asked: Fields, batch: int, records: RecordSet, kill_behind: int | None = None) -> float:
    """Give the validation GAP behind the last epoch, with a worker killed on the way where that is asked for."""
    name, _, workers = way.partition(":")
    trainer, _, mode = name.partition("-")
    count = int(workers or 1)
    fields = {**asked, "trainer": trainer, "workers": count, "batch_size": batch}
    training = TrainSpec.model_validate({**fields, **({"mode": mode} if mode else {})})
    folder = Path(tempfile.mkdtemp(prefix="bench-train-"))
    try:
        with killed_behind(kill_behind, folder):
            return run_job(Asked(name, records, training, slots=training.ranks), folder).gaps[-1][1]
    finally:
        shutil.rmtree(folder)


@contextmanager
def killed_behind(epoch: int | None, folder: Path) -> Iterator[None]:
    """Kill a worker of the training in a folder halfway through an epoch, once. Raises RuntimeError if none was."""
    ended, done = threading.Event(), threading.Event()

    def kill() -> None:
        while not ended.wait(0.1):
            seconds = _seconds_of(epoch, folder)
            if seconds is not None and not ended.wait(seconds / 2):
                _workers()[0].kill()
                done.set()
                return

    thread = threading.Thread(target=kill)
    if epoch is not None:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if epoch is not None:
            thread.join()
    if epoch is not None and not done.is_set():
        raise RuntimeError(f"expected to kill a worker behind epoch {epoch}: there was none")


def _seconds_of(epoch: int | None, folder: Path) -> float | None:
    """Give what an epoch took; None where it is not over."""
    for path in folder.rglob("history.json"):
        for done in json.loads(path.read_bytes())["epochs"]:
            if done["epoch"] == epoch:
                return float(done["seconds"])
    return None


def _workers() -> list[psutil.Process]:
    """Give the processes that run tasks: children of Spark's daemon."""
    found = [each for each in psutil.Process().children(recursive=True) if "pyspark.daemon" in _command(each)]
    return [each for each in found if any(each.ppid() == other.pid for other in found)]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it ended meanwhile
        return ""


if __name__ == "__main__":
    sys.exit(main())
