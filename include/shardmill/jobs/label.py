"""Settle a run's labels: the table, its vocabulary, and whether it fits the videos at all."""

from __future__ import annotations

from collections.abc import Iterable

from shardmill.adapters import lake as commits
from shardmill.adapters import run_folder
from shardmill.adapters.label_tables import TABLE, label_table, settle_table
from shardmill.adapters.store import MissingObjectError, Store, StoreSettings, read_uri
from shardmill.core.labels import LabelTable
from shardmill.core.planning import BadRequestError, count_labelled
from shardmill.specs.manifest import Video
from shardmill.specs.run import RunLabels, RunSpec

__all__ = ["TABLE", "given_table", "label_run", "label_table"]


def given_table(run: RunSpec, settings: StoreSettings | None) -> LabelTable:
    """Make the label table of the run's CSV."""
    return LabelTable.from_csv(read_uri(run.video.labels, settings).decode())


def _read_table(run: RunSpec, videos: Iterable[Video], settings: StoreSettings | None) -> LabelTable:
    """Make the label table from the run's CSV, else from what the clips' manifests say of each video."""
    if run.video.labels:
        return given_table(run, settings)
    return LabelTable.from_rows({video.key: video.labels for video in videos if video.labels})


def _published_videos(lake: Store, run: RunSpec, shards: Iterable[int]) -> list[Video]:
    """List the videos of the run's shards that became clips."""
    videos: list[Video] = []
    for shard in shards:
        revision = commits.latest_revision(lake, "clips", run.asked.dataset, run.video.split_recipe.hash, shard)
        if revision is None:
            raise MissingObjectError(
                f"shard {shard:06d} has no clips of recipe {run.video.split_recipe.hash}: split it first"
            )
        videos.extend(revision.manifest.videos)
    return videos


def label_run(lake: Store, run: RunSpec, shards: Iterable[int], settings: StoreSettings | None = None) -> RunLabels:
    """Freeze the run's labels.

    Raises:
        BadRequestError: no video has a label, or the labels changed since the run first read them.
    """
    published = _published_videos(lake, run, shards)
    table = _read_table(run, published, settings)
    videos = [video.key for video in published]
    labelled = count_labelled(videos, table.rows)
    origin = run.video.labels or "the videos' .info.json"
    if not labelled:
        raise BadRequestError(
            f"labels: {origin} names {len(table.rows)} videos, "
            f"and none of the {len(videos)} published videos is one of them"
        )
    changed = BadRequestError(f"labels: {origin} changed since this run read them first: trigger a new run")
    if not settle_table(lake, run, table):
        raise changed
    labels = RunLabels(digest=table.digest, vocabulary=table.vocabulary, videos=len(videos), labelled=labelled)
    if run_folder.freeze(lake, run.run, "labels.json", labels) != labels:
        raise changed
    return labels
