"""Spark as a pool of workers: one task for each item, tried again elsewhere, and copied where one is slow."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pyspark import SparkConf, SparkContext, TaskContext

Item = TypeVar("Item")
Result = TypeVar("Result")

SETTINGS = {
    # An item that takes its executor with it would end all the others' work; whoever works bounds its own tries.
    "spark.task.maxFailures": "1000",
    "spark.ui.showConsoleProgress": "false",  # it would fill the step's log
    "spark.dynamicAllocation.enabled": "false",
    # A process of its own for each task: what a task leaves behind ends with it.
    "spark.python.worker.reuse": "false",
    # A copy of a slow task is begun on another node that has nothing else to do; the first to end counts.
    "spark.speculation": "true",
    "spark.speculation.quantile": "0.75",
    "spark.speculation.multiplier": "2",
    "spark.speculation.interval": "1s",
}
LOOK_SECONDS = 30.0


@dataclass(frozen=True)
class Place:
    """Where a try of an item runs."""

    attempt: int
    """0 for the first; tries whose executor was lost and copies count too."""
    cores: int
    """What the try may use."""
    scratch: Path
    """Folder for temporary files, which goes with the executor."""


Work = Callable[[Item, Place], Result]
"""What is done for an item, on an executor; it goes there by its name."""


@dataclass(frozen=True)
class _Task(Generic[Item, Result]):
    work: Work[Item, Result]

    def __call__(self, item: Item) -> Result:
        context = TaskContext.get()
        if context is None:
            raise RuntimeError("expected to run inside a task of Spark")
        # On YARN several volumes, of which Spark names all; they are emptied with the executor or the application.
        folders = [Path(folder) for folder in os.environ.get("SPARK_LOCAL_DIRS", tempfile.gettempdir()).split(",")]
        scratch = max(folders, key=lambda folder: shutil.disk_usage(folder).free)
        return self.work(item, Place(context.attemptNumber(), context.cpus(), scratch))


def run_tasks(
    name: str, items: Sequence[Item], work: Work[Item, Result], say: Callable[[str], None], **settings: str
) -> list[Result]:
    """Work on each item in a task of its own; give the results in the items' order.

    A task that raises is tried again, without end: ``work`` decides by ``Place.attempt`` when to give up.

    Args:
        say: gets a line now and then about how many are done.
        settings: of Spark beside or instead of ``SETTINGS``, their names' dots written as underscores.
    """
    conf = SparkConf().setAppName(name)
    for key, value in {**SETTINGS, **{key.replace("_", "."): value for key, value in settings.items()}}.items():
        conf.set(key, value)
    context = SparkContext.getOrCreate(conf)
    context.setLogLevel("WARN")
    try:
        with _progress(context, len(items), say):
            return context.parallelize(items, len(items)).map(_Task(work)).collect()
    finally:
        context.stop()


@contextmanager
def _progress(context: SparkContext, total: int, say: Callable[[str], None]) -> Iterator[None]:
    ended = threading.Event()
    tracker = context.statusTracker()

    def look() -> None:
        said = 0
        while not ended.wait(LOOK_SECONDS):
            stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
            done = sum(stage.numCompletedTasks for stage in stages if stage is not None)
            if done > said:
                say(f"{done} of {total} done")
                said = done

    watcher = threading.Thread(target=look, name="progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
