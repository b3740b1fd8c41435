"""Ten shards of which six are due: three new, one changed, one of an old recipe, one with rejects that may pass."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest

from shardmill import stages
from shardmill.adapters.access import Access
from shardmill.adapters.roots import Roots
from shardmill.adapters.video.error import VideoError
from shardmill.adapters.video.pieces import Pieces
from shardmill.adapters.video.slots import Slot
from shardmill.jobs.plan import plan_run
from shardmill.jobs.sample import make_sample
from shardmill.jobs.split import Splitting
from shardmill.specs.shard_runs import BackfillSpec, NightlySpec

DONE, CHANGED, OLD_RECIPE, REJECTS, NEW = (0, 1, 2, 3), 4, 5, 6, (7, 8, 9)
DUE = (CHANGED, OLD_RECIPE, REJECTS, *NEW)
PROJECT = Path(__file__).resolve().parents[2]
WorkersAsked = NightlySpec | BackfillSpec
ANYWHERE = Access(roots=Roots(("file:///", "s3://"), ("file:///", "s3://")))


class SlowSlot(Slot):
    """Finds no time for any video."""

    def cut(self, video: Path, **options: Any) -> Pieces:
        raise VideoError("time_out", "expected the video within its time")


def small(source: Path, lake: str, **asked: Any) -> NightlySpec:
    """Ask for small clips, that are made fast."""
    return NightlySpec(**_small(source, lake) | asked)


def small_range(source: Path, lake: str, **asked: Any) -> BackfillSpec:
    """Ask a backfill for the same."""
    return BackfillSpec(**_small(source, lake) | asked)


def _small(source: Path, lake: str) -> dict[str, Any]:
    values: dict[str, Any] = {"preset": "ultrafast", "width": 64, "height": 32, "max_reject_share": 1.0}
    return values | {"source": source.as_uri(), "labels": f"{source.as_uri()}/labels.csv", "lake": lake}


def do(asked: WorkersAsked, run: str) -> stages.OpenRun:
    """Plan a run and do all its shards, as Airflow's tasks do."""
    planned = plan_run(asked, run, ANYWHERE)
    opened = stages.open_run(planned.spec_uri, lambda connection: ANYWHERE)
    for batch in planned.batches:
        stages.through(opened, batch, lambda line: None)
    return opened


def make_source(folder: Path) -> Path:
    """Write ten shards of two videos each; the higher a shard's number, the older it is."""
    source = folder / "source"
    make_sample(source, videos=15, shards=10, seconds=(2, 2.2))
    for number, path in enumerate(sorted(source.glob("*.tar"))):
        os.utime(path, (1_700_000_000 - number, 1_700_000_000 - number))
    return source


def make_due(source: Path, lake: str) -> None:
    """Do seven shards, and see to it that three of these are due again."""
    do(small(source, lake, shards="000005", crf=30.0), "older")
    do(small(source, lake, shards="000000..000004"), "before")
    with no_time():
        do(small(source, lake, shards="000006"), "slow")
    drop_a_video(source / "sample-000004.tar")


@contextmanager
def no_time(bytes_at_least: int = 0) -> Iterator[None]:
    """Refuse every video, or every large one, for lack of time, for the length of a with block."""

    class Hurried(SlowSlot):
        def cut(self, video: Path, **options: Any) -> Pieces:
            kind = SlowSlot if video.stat().st_size >= bytes_at_least else Slot
            return kind.cut(self, video, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Splitting, "__init__", partialmethod(Splitting.__init__, open_cutter=Hurried))
        yield


def drop_a_video(path: Path) -> None:
    """Change a shard at its source: the last of its videos is gone."""
    changed = path.with_suffix(".new")
    with tarfile.open(path) as tar, tarfile.open(changed, "w") as less:
        first = tar.getmembers()[0].name.partition(".")[0]
        for member in tar:
            if member.name.startswith(first):
                less.addfile(member, tar.extractfile(member))
    shutil.move(changed, path)


def spoil(path: Path) -> None:
    """Put what is no video in the place of a shard's videos."""
    with tarfile.open(path) as tar:
        names = [member.name for member in tar if member.name.endswith(".mp4")]
    with tarfile.open(path, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 1000
            tar.addfile(member, io.BytesIO(b"no video" * 125))


def bench_plan() -> Any:
    """The benchmark of plans, which makes thousands of shards."""
    spec = importlib.util.spec_from_file_location("bench_plan", PROJECT / "scripts" / "bench_plan.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
