"""Time training: plain Keras `fit`, Elephas, and ours, in turn, on the same records and cores.

    .local/airflow/bin/python scripts/bench_train.py            # or: make bench-train ROUNDS=3

Each side first runs at every global batch size, on some of the records, and keeps the one at which its second epoch is
fastest. Then come the rounds, each side in turn, three epochs each. Learning rates go with the root of the batch size,
for all sides alike. Keras has both cores; workers of Elephas and of ours have a thread each. `single` is also what
`local_sgd` and `allreduce` are on one worker. Figures are medians over the rounds, ratios those of the ratios within
each. Steady means: of the second epoch and on; Elephas tells no epochs, so there it is what three epochs take longer
than one, which runs in the first round only. The last line is JSON; `time_to_gap` is in seconds since the start of a
side's process, with all that it does, to 0.95 of the GAP that `single` has after its epochs (null: not reached).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench_train_data import make_records
from bench_train_runs import MODEL, Asked, Outcome, end_when_told, run_job, run_keras
from shardmill.specs.records import RecordSet
from shardmill.specs.training import PRECISIONS, TrainSpec

CACHE = Path(__file__).resolve().parent.parent / ".local" / "bench"
LEARNING_RATE, AT_BATCH = 0.003, 64
CHOOSING_PARTS, CHOOSING_EPOCHS = 2, 2
SHORTEST_SECONDS = 60
"""That `single` must train: below, what is compared is how fast the sides start."""
OF_GAP = 0.95


@dataclass(frozen=True)
class Side:
    """A way to train."""

    run: Callable[[Asked, Path], Outcome]
    workers: int
    fields: Mapping[str, str]

    @property
    def is_elephas(self) -> bool:
        """Whether Elephas trains."""
        return self.fields.get("trainer") == "elephas"


SIDES = {
    "keras_fit": Side(run_keras, 1, {}),
    "elephas_sync": Side(run_job, 2, {"trainer": "elephas", "mode": "synchronous"}),
    "elephas_async": Side(run_job, 2, {"trainer": "elephas", "mode": "asynchronous"}),
    "single": Side(run_job, 1, {"trainer": "single"}),
    "local_sgd": Side(run_job, 2, {"trainer": "local_sgd"}),
    "allreduce": Side(run_job, 2, {"trainer": "allreduce"}),
}
ELEPHAS, OURS = ("elephas_sync", "elephas_async"), ("local_sgd", "allreduce")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records", type=int, default=4000, help="to train on; a fifth as many to validate")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batches", default="64,128,256", help="global batch sizes to choose from")
    parser.add_argument("--units", type=int, default=MODEL["rgb_units"], help="of each LSTM in each direction")
    parser.add_argument("--precision", default="auto", choices=PRECISIONS, help="of frames, for ours")
    parser.add_argument("--sides", default=",".join(SIDES), help="all are needed for the ratios")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the records are kept")
    asked = parser.parse_args()
    end_when_told()
    records = make_records(asked.cache / f"train-{asked.records}", asked.records, max(asked.records // 5, 1))
    model = {**MODEL, "rgb_units": asked.units, "audio_units": asked.units, "precision": asked.precision}
    bench = Bench(records, asked.epochs, model)
    batches = bench.choose(asked.sides.split(","), [int(size) for size in asked.batches.split(",")])
    rounds = [bench.round(number, batches) for number in range(1, asked.rounds + 1)]
    if batches.keys() != SIDES.keys():
        say("some sides were left out: no ratios")
        return 0
    if (trained := statistics.median(one["single"].all_seconds for one in rounds)) < SHORTEST_SECONDS:
        say(f"`single` trained for {trained:.0f} s, less than a minute: ask for more RECORDS")
    print(json.dumps({**figures(rounds, asked.records), "batches": batches, "rounds": asked.rounds}))
    return 0


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Bench:
    """The runs of a bench."""

    def __init__(self, records: RecordSet, epochs: int, model: Mapping[str, int | str]) -> None:
        self._records, self._epochs, self._model = records, epochs, model
        self._short: dict[str, Outcome] = {}

    def choose(self, names: Sequence[str], sizes: Sequence[int]) -> dict[str, int]:
        """Give each side's best global batch size."""
        if len(sizes) == 1:
            return dict.fromkeys(names, sizes[0])
        few = replace_parts(self._records, CHOOSING_PARTS)
        best = {}
        for name in names:
            taken = {}
            for size in sizes:
                outcome = self._run(name, size, few, CHOOSING_EPOCHS)
                taken[size] = outcome.seconds[-1] if outcome.seconds else outcome.all_seconds / CHOOSING_EPOCHS
            best[name] = min(taken, key=lambda size: taken[size])
            told = ", ".join(f"{size}: {seconds:.1f} s" for size, seconds in taken.items())
            say(f"{name}: an epoch of a few records by global batch size: {told}; taken: {best[name]}")
        return best

    def round(self, number: int, batches: Mapping[str, int]) -> dict[str, Outcome]:
        """Run every side once; Elephas for one epoch too, the first time."""
        found = {}
        for name, size in batches.items():
            load = os.getloadavg()[0]
            outcome = self._run(name, size, self._records, self._epochs)
            if SIDES[name].is_elephas:
                short = self._short.get(name) or self._run(name, size, self._records, 1)
                self._short[name] = short
                # On next to no records one epoch may take longer than three: then the figure is noise, not negative.
                later = max(outcome.all_seconds - short.all_seconds, outcome.all_seconds / 100)
                outcome.seconds = [short.all_seconds, later]
                outcome.gaps = [*short.gaps, *outcome.gaps]
            found[name] = outcome
            say(f"round {number}: {name}: {_told(outcome)}, load before {load:.1f}")
        return found

    def _run(self, name: str, size: int, records: RecordSet, epochs: int) -> Outcome:
        side = SIDES[name]
        rate = LEARNING_RATE * (size / AT_BATCH) ** 0.5
        training = TrainSpec.model_validate(
            {
                **self._model,
                **side.fields,
                "workers": side.workers,
                "epochs": epochs,
                "batch_size": size,
                "learning_rate": rate,
            }
        )
        folder = Path(tempfile.mkdtemp(prefix="bench-train-"))
        try:
            return side.run(Asked(name, records, training), folder)
        finally:
            shutil.rmtree(folder)


def replace_parts(records: RecordSet, parts: int) -> RecordSet:
    """Give the same with fewer parts to train on."""
    return records.model_copy(update={"train": records.train[:parts], "validation": records.validation[:1]})


def _told(outcome: Outcome) -> str:
    gaps = ", ".join(f"{gap:.3f} at {at:.0f} s" for at, gap in outcome.gaps)
    epochs = ", ".join(f"{seconds:.1f}" for seconds in outcome.seconds)
    return f"wall {outcome.wall:.1f} s, training {epochs} s, GAP {gaps}, memory {outcome.rss:.0f} MB"


def figures(rounds: Sequence[Mapping[str, Outcome]], records: int) -> dict[str, object]:
    """Give the medians over the rounds."""
    epochs = len(rounds[0]["single"].seconds)
    speeds = {name: [records * (epochs - 1) / sum(one[name].seconds[1:]) for one in rounds] for name in rounds[0]}
    walls = {name: [one[name].wall for one in rounds] for name in rounds[0]}
    ours = max(OURS, key=lambda name: statistics.median(speeds[name]))
    elephas = min(ELEPHAS, key=lambda name: statistics.median(walls[name]))
    target = OF_GAP * statistics.median(one["single"].gaps[-1][1] for one in rounds)
    median = partial(_median_of, speeds)
    ratio = partial(_ratio, speeds)
    return {
        "keras_fit_examples_per_s": median("keras_fit"),
        "elephas_sync": median("elephas_sync"),
        "elephas_async": median("elephas_async"),
        "ours_1": median("single"),
        "ours_2": median(ours),
        "ours_2_by": {name: median(name) for name in OURS},
        "of_single": ratio(ours, "keras_fit"),
        "vs_elephas": _ratio(walls, elephas, ours),
        "speedup_1_to_2": ratio(ours, "single"),
        "target_gap": round(target, 4),
        "time_to_gap": {name: _time_to_gap([one[name] for one in rounds], target) for name in rounds[0]},
        "gap": {name: round(statistics.median(one[name].gaps[-1][1] for one in rounds), 4) for name in rounds[0]},
        "wall_s": {name: round(statistics.median(taken), 1) for name, taken in walls.items()},
        "set_up_s": {name: round(statistics.median(one[name].set_up for one in rounds), 1) for name in rounds[0]},
        "peak_rss_mb": {name: round(statistics.median(one[name].rss for one in rounds)) for name in rounds[0]},
    }


def _median_of(values: Mapping[str, Sequence[float]], name: str) -> float:
    return round(statistics.median(values[name]), 1)


def _ratio(values: Mapping[str, Sequence[float]], above: str, below: str) -> float:
    pairs = zip(values[above], values[below], strict=True)
    return round(statistics.median(one / other for one, other in pairs), 3)


def _time_to_gap(outcomes: Sequence[Outcome], target: float) -> float | None:
    reached = [next((at for at, gap in outcome.gaps if gap >= target), None) for outcome in outcomes]
    seconds = [at for at in reached if at is not None]
    return round(statistics.median(seconds), 1) if len(seconds) == len(reached) else None


if __name__ == "__main__":
    sys.exit(main())
