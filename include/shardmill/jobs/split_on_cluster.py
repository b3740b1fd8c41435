"""Split a run's shards on a cluster, a Spark task for each shard. Runs inside spark-submit."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shardmill.adapters.run_folder import find, freeze, load, load_run, run_key
from shardmill.adapters.store import Store
from shardmill.core import layout
from shardmill.specs.run import PlannedShard, RunPlan, RunSpec
from shardmill.specs.split_outcome import ShardFailure, SplitFailures, SplitResult

if TYPE_CHECKING:
    from shardmill.adapters.spark_tasks import Place

RESULT = "split.json"
FAILURES = "split-failures.json"
TRIES = 4
"""Of a shard whose error may pass; the only layer that tries a shard again."""
MOST_ATTEMPTS = 6
"""Copies of slow tasks and lost executors count here; a shard that ends its executor each time ends here itself."""
_SHOWN = 20
_LONGEST = 500

SplitShard = Callable[[str, int, int, Callable[[str], None]], str]
"""Splits a shard, given the URI of spec.json, the shard, how many processes it may use, and who is told; says what
became of it in a line."""


@dataclass(frozen=True)
class Splitting:
    """How a shard is split. Both go to the executors by their names."""

    split: SplitShard
    hopeless: Callable[[], tuple[type[Exception], ...]]
    """Lists the errors that another try cannot mend."""


class ShardsFailedError(RuntimeError):
    """Some shards could not be split; the message names each."""


def shards_to_split(run: RunSpec, plan: RunPlan) -> tuple[PlannedShard, ...]:
    """Give the shards of a plan that a stage is to be done for which splitting does, the largest first.

    The last tasks of a job are then short ones, so that nodes wait little for one another.
    """
    stages = {"clips", "features"} if run.video.fused else {"clips"}
    return tuple(sorted((one for one in plan.shards if stages & one.todo.keys()), key=lambda one: -one.source.size))


@dataclass(frozen=True)
class _Try:
    """Splits a shard inside a task of Spark."""

    spec_uri: str
    how: Splitting

    def __call__(self, shard: int, place: Place) -> str | ShardFailure:
        if place.attempt >= MOST_ATTEMPTS:
            error = f"{place.attempt} tries ended with their executors: its worker needs more memory than a node has"
            return ShardFailure(shard=shard, error=error, hopeless=False)
        os.environ["TMPDIR"] = tempfile.tempdir = str(place.scratch)  # this process is the task's own
        name = layout.shard_name(shard)

        def say(line: str) -> None:
            print(f"[{name}] {line}", file=sys.stderr, flush=True)

        try:
            return self.how.split(self.spec_uri, shard, place.cores, say)
        except Exception as error:
            hopeless = isinstance(error, self.how.hopeless())
            if not hopeless and place.attempt + 1 < TRIES:
                raise
            said = f"{type(error).__name__}: {error}"[:_LONGEST]
            return ShardFailure(shard=shard, error=said, hopeless=hopeless)


def split_run(run: RunSpec, lake: Store, how: Splitting, say: Callable[[str], None] = print) -> SplitResult:
    """Split what the run's plan names, unless its folder says that this is done.

    Raises:
        ShardsFailedError: behind the other shards, with the errors of those that failed in ``split-failures.json``.
    """
    if found := find(lake, run.run, RESULT, SplitResult):
        say(f"already split: {len(found.shards)} shards")
        return found
    lake.delete([run_key(run.run, FAILURES)])  # of an earlier try
    started = time.monotonic()
    shards = [planned.shard for planned in shards_to_split(run, load(lake, run.run, "plan.json", RunPlan))]
    results = _split_all(run, shards, how, say) if shards else []
    failures = [result for result in results if isinstance(result, ShardFailure)]
    for shard, result in zip(shards, results, strict=True):
        say(str(result) if isinstance(result, ShardFailure) else f"shard {layout.shard_name(shard)}: {result}")
    if failures:
        raise _failed(run, lake, failures, len(shards))
    seconds = round(time.monotonic() - started, 3)
    done = SplitResult(recipe=run.video.split_recipe.hash, shards=tuple(sorted(shards)), seconds=seconds)
    say(f"split {len(shards)} shards in {seconds:.1f} s")
    return freeze(lake, run.run, RESULT, done)


def _split_all(
    run: RunSpec, shards: Sequence[int], how: Splitting, say: Callable[[str], None]
) -> list[str | ShardFailure]:
    from shardmill.adapters.spark_tasks import run_tasks

    say(f"splitting {len(shards)} shards")
    return run_tasks(f"split {run.run}", shards, _Try(f"{run.folder}/spec.json", how), say)


def _failed(run: RunSpec, lake: Store, failures: Sequence[ShardFailure], shards: int) -> ShardsFailedError:
    ordered = tuple(sorted(failures, key=lambda failure: (not failure.hopeless, failure.shard)))
    lake.put(run_key(run.run, FAILURES), SplitFailures(failures=ordered).to_json())
    more = [f"and {len(ordered) - _SHOWN} more"] if len(ordered) > _SHOWN else []
    lines = [f"{len(ordered)} of {shards} shards failed:", *map(str, ordered[:_SHOWN]), *more]
    return ShardsFailedError("\n".join(lines))


def main(argv: list[str], how: Splitting) -> int:
    """Split the run whose spec.json lies at the URI ``argv[0]``."""
    if len(argv) != 1:
        print("expected one argument: the URI of the run's spec.json", file=sys.stderr)
        return 2
    run = load_run(argv[0])
    split_run(run, Store(run.asked.lake), how, lambda line: print(line, flush=True))
    return 0
