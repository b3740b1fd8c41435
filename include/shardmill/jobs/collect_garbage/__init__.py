"""Collect garbage: what no manifest lists, recipes past their retention, uploads that nobody finished."""

from __future__ import annotations

import time

from shardmill.adapters.open_uploads import GCS_ADVICE, open_uploads
from shardmill.adapters.store import Store, StoreSettings
from shardmill.jobs.collect_garbage.recipes import collect_recipes
from shardmill.jobs.collect_garbage.tally import Collected, Say, Tally
from shardmill.jobs.collect_garbage.unlisted import collect_unlisted
from shardmill.specs.garbage import GarbageSpec
from shardmill.specs.manifest import Stage

__all__ = ["Collected", "collect_garbage"]

STAGES: tuple[Stage, ...] = ("features", "clips", "raw")
"""Those that refer to others first: what goes of them refers to nothing any more."""
UPLOAD = "unfinished upload"


def collect_garbage(
    spec: GarbageSpec, settings: StoreSettings | None = None, say: Say = lambda line: None
) -> Collected:
    """Delete, or without ``spec.delete`` only say, what nothing refers to.

    Writers may be at work meanwhile. Nothing is touched of a shard without a manifest, of a revision above a shard's
    highest, of a chain of revisions with a gap or a damaged manifest, and of recipes that a run refers to.

    Args:
        say: gets a line for whatever goes or stays.

    Raises:
        StoreError: the lake cannot be listed, read or deleted from.
    """
    lake, tally = Store(spec.lake, settings), Tally(spec.delete, say)
    before = time.time() - spec.older_than_hours * 3600
    gone = collect_recipes(lake, spec, before, tally)
    for stage in STAGES:
        for dataset in [spec.dataset] if spec.dataset else lake.folders(stage):
            parent = f"{stage}/{dataset}"
            found = [parent] if stage == "raw" else [f"{parent}/{name}" for name in lake.folders(parent)]
            for folder in found:
                if folder not in gone:
                    collect_unlisted(lake, folder, tally)
    _collect_uploads(lake, before, tally)
    return tally.close()


def _collect_uploads(lake: Store, before: float, tally: Tally) -> None:
    if lake.uri.startswith("gs://"):
        tally.stay(lake.uri, GCS_ADVICE)
    for upload in open_uploads(lake, before):
        if tally.delete:
            upload.abort()
        hours = (time.time() - upload.touched) / 3600
        tally.go(UPLOAD, 1, upload.size, f"{upload.uri}, {hours:.0f} hours old")
