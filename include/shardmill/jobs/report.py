"""Write a run's report from what the run left in the lake, whether it succeeded or not."""

from __future__ import annotations

import logging
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from shardmill.adapters import lake as commits
from shardmill.adapters.run_folder import find, run_key
from shardmill.adapters.store import Store, StoreError
from shardmill.core.page import Shown
from shardmill.core.page_making import make_page
from shardmill.core.report import STAGES, Found, Manifests, Prediction, TaskOutcome, choose_shown
from shardmill.specs.manifest import Manifest, Stage
from shardmill.specs.record_files import FoundRecords
from shardmill.specs.records import MetricsReport, ModelManifest, Predictions, RecordSet
from shardmill.specs.run import RunClusters, RunLabels, RunPlan, RunSpec
from shardmill.specs.spent import RunSpent

__all__ = ["RunSummary", "TaskOutcome", "summarise", "write_report"]

log = logging.getLogger(__name__)
REPORT = "report.html"
SHOWN_VIDEOS = 24
MOMENTS = 3
"""Pictures of a video, spread evenly over it."""
READERS = 16
PICTURE_BYTES = 1_000_000_000
"""Clips are read back for pictures until so many bytes of parts were asked for."""


@dataclass(frozen=True)
class RunSummary:
    """A run in numbers; None where it did not come so far."""

    shards: int | None
    videos: int | None
    """Videos published as clips; those in the shards are these and the rejects."""
    clips: int | None
    rejects: int | None
    gap: float | None
    gap_rgb_only: float | None
    gap_audio_only: float | None
    gap_shuffled_frames: float | None
    gap_constant: float | None
    map: float | None
    hit_at_1: float | None
    perr: float | None
    report: str | None
    """URI of the report; None where none was written."""


_SCORES = ("gap", "gap_rgb_only", "gap_audio_only", "gap_shuffled_frames", "gap_constant", "map", "hit_at_1", "perr")


def summarise(lake: Store, run: RunSpec) -> RunSummary:
    """Sum a run up from what it left in the lake."""
    found = _find(lake, run, with_predictions=False)
    totals, key = found.totals, run_key(run.run, REPORT)
    return RunSummary(
        shards=totals.shards,
        videos=totals.videos,
        clips=totals.clips,
        rejects=totals.rejects,
        **{name: getattr(found.metrics, name) if found.metrics else None for name in _SCORES},
        report=lake.uri_of(key) if lake.head(key) else None,
    )


def write_report(lake: Store, run: RunSpec, tasks: Sequence[TaskOutcome], *, failure: str = "") -> str:
    """Write ``report.html`` into the run's folder; it can always be made again.

    Args:
        tasks: how the run's tasks ended, in the order in which they are shown.
        failure: message of the task that failed; empty where none did.

    Returns:
        The report's URI.
    """
    from shardmill.adapters.report_page import render

    found = _find(lake, run)
    chosen = choose_shown(found.predictions, SHOWN_VIDEOS)
    pictures = _pictures(lake, found.manifests.get("clips", {}).values(), {shown.video for shown in chosen})
    shown = [Shown(prediction, pictures.get(prediction.video, ())) for prediction in chosen]
    key = run_key(run.run, REPORT)
    lake.put(key, render(make_page(found, tasks, failure, shown)))
    return lake.uri_of(key)


def _find(lake: Store, run: RunSpec, *, with_predictions: bool = True) -> Found:
    plan = find(lake, run.run, "plan.json", RunPlan)
    labels = find(lake, run.run, "labels.json", RunLabels)
    shards = plan.numbers if plan else None
    digest = labels.digest if labels else plan.labels if plan else ""
    return Found(
        run=run,
        shards=shards,
        labels_digest=digest,
        manifests=_manifests(lake, run, shards, digest) if shards else {},
        found_records=find(lake, run.run, "found.json", FoundRecords),
        records=find(lake, run.run, "records.json", RecordSet),
        model=find(lake, run.run, "model/model.json", ModelManifest),
        metrics=find(lake, run.run, "metrics.json", MetricsReport),
        clusters=find(lake, run.run, "clusters.json", RunClusters),
        spent=find(lake, run.run, "spent.json", RunSpent),
        to_do={stage: frozenset(one.shard for one in plan.shards if stage in one.todo) for stage in STAGES}
        if plan
        else {},
        predictions=_predictions(lake, run) if with_predictions else (),
    )


def _manifests(lake: Store, run: RunSpec, shards: Sequence[int], labels_digest: str) -> Manifests:
    recipes: dict[Stage, str | None] = {
        "raw": "",
        "clips": run.video.split_recipe.hash,
        "features": run.video.feature_recipe(labels_digest).hash if labels_digest else None,
    }
    wanted = [(stage, recipe, shard) for stage, recipe in recipes.items() if recipe is not None for shard in shards]

    def read(item: tuple[Stage, str, int]) -> commits.Revision | None:
        stage, recipe, shard = item
        return commits.latest_revision(lake, stage, run.asked.dataset, recipe, shard)

    found: dict[Stage, dict[int, Manifest]] = {stage: {} for stage in STAGES}
    # Thousands of shards are as many requests, and each is little but waiting.
    with ThreadPoolExecutor(READERS) as pool:
        for (stage, _, shard), revision in zip(wanted, pool.map(read, wanted), strict=True):
            if revision is not None:
                found[stage][shard] = revision.manifest
    return found


def _predictions(lake: Store, run: RunSpec) -> tuple[Prediction, ...]:
    said = find(lake, run.run, "predictions.json", Predictions)
    listed = said.listed.items() if said else ()
    return tuple(Prediction(video, one.labels, tuple(sorted(one.top, key=_by_score))) for video, one in listed)


def _by_score(scored: tuple[str, float]) -> tuple[float, str]:
    return -scored[1], scored[0]


def _pictures(lake: Store, clips: Iterable[Manifest], videos: set[str]) -> dict[str, tuple[str, ...]]:
    """Make the pictures of some videos; one whose clips cannot be read goes without, the report is still written."""
    from shardmill.adapters.tar import DamagedTarError

    pictures: dict[str, tuple[str, ...]] = {}
    left = PICTURE_BYTES
    for manifest in clips:
        wanted = videos & {video.key for video in manifest.videos}
        size = sum(part.size for part in manifest.parts)
        if not wanted or size > left:
            continue
        left -= size
        try:
            pictures |= dict(_pictures_of_shard(lake, manifest, wanted))
        except (StoreError, DamagedTarError, tarfile.TarError) as error:
            log.warning("no pictures of shard %06d: %s", manifest.shard, error)
    return pictures


def _pictures_of_shard(lake: Store, manifest: Manifest, wanted: set[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    from shardmill.adapters.tar import read_clips
    from shardmill.adapters.thumbnails import NoPictureError, thumbnail

    missing = set(wanted)
    for video in read_clips(lake, manifest):
        if video.key not in missing:
            continue
        missing.discard(video.key)
        made = []
        for clip, at in moments(video.clips):
            try:
                made.append(thumbnail(clip, at))
            except NoPictureError as error:
                log.warning("no picture of %r: %s", video.key, error)
        yield video.key, tuple(made)
        if not missing:
            return


def moments(clips: Sequence[bytes], count: int = MOMENTS) -> list[tuple[bytes, float]]:
    """Choose moments spread evenly over a video: the clip of each, and where in the clip, from 0 to 1."""
    places = [(index + 0.5) / count * len(clips) for index in range(count)] if clips else []
    return [(clips[int(place)], place % 1) for place in places]
