"""Write a run's report from what the run left in the lake, whether it succeeded or not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from shardmill.adapters import lake as commits
from shardmill.adapters.clip_ranges import read_clip
from shardmill.adapters.earlier_runs import find_earlier
from shardmill.adapters.run_folder import find, run_key
from shardmill.adapters.stage_manifests import list_manifests
from shardmill.adapters.store import Store, StoreError
from shardmill.core.page import Shown, ShownGroup
from shardmill.core.page_making import Told, make_page, result_of
from shardmill.core.report import STAGES, Found, Prediction, TaskOutcome
from shardmill.core.showcase import choose_groups
from shardmill.core.stage_output import StageOutput
from shardmill.specs.curves import LabelCurves
from shardmill.specs.fresh import Fresh
from shardmill.specs.manifest import Manifest, Stage, Video
from shardmill.specs.record_files import FoundRecords
from shardmill.specs.records import MetricsReport, ModelManifest, Predictions, RecordSet
from shardmill.specs.result import RunResult
from shardmill.specs.run import RunClusters, RunLabels, RunPlan, RunSpec
from shardmill.specs.spent import RunSpent
from shardmill.specs.training_run import TrainingHistory

__all__ = ["RunSummary", "TaskOutcome", "summarise", "write_report"]

log = logging.getLogger(__name__)
REPORT = "report.html"
RESULT = "result.json"
READERS = 16
MANY = 50
"""Shards of a run from which on all manifests are listed, unless the run took few of very many."""
KEYS_A_LISTING = 1000
"""That a store gives at once."""


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
    found = _find(lake, run, whole=False)
    totals, key = found.totals, run_key(run.run, REPORT)
    return RunSummary(
        shards=totals.shards,
        videos=totals.videos,
        clips=totals.clips,
        rejects=totals.rejects,
        **{name: getattr(found.metrics, name) if found.metrics else None for name in _SCORES},
        report=lake.uri_of(key) if lake.head(key) else None,
    )


def write_report(
    lake: Store, run: RunSpec, tasks: Sequence[TaskOutcome], *, failure: str = "", took: float | None = None
) -> str:
    """Write ``report.html`` into the run's folder, and its numbers as ``result.json``; both can be made again.

    Args:
        tasks: how the run's tasks ended.
        failure: message of the task that failed; empty where none did.
        took: wall seconds since the run began; None where that is not known.

    Returns:
        The report's URI.
    """
    from shardmill.adapters.report_page import render

    found, told = _find(lake, run, whole=True), Told(tasks, failure, took)
    groups = choose_groups(found.predictions)
    shown = _shown(lake, found, [one for group in groups for one in group.predictions])
    page = make_page(
        found,
        told,
        [ShownGroup(one.name, one.meaning, tuple(shown[said.video] for said in one.predictions)) for one in groups],
    )
    key = run_key(run.run, REPORT)
    _keep_result(lake, run, result_of(found, told))
    lake.put(key, render(page))
    return lake.uri_of(key)


def _keep_result(lake: Store, run: RunSpec, result: RunResult) -> None:
    """Write down what the run came to, unless that is known: a cleared run that did nothing took no time for it."""
    try:
        known = find(lake, run.run, RESULT, RunResult)
    except StoreError as error:
        log.warning("%s; it is written anew", error)
        known = None
    if known is None or known.state != "succeeded" or known.outcome != result.outcome:
        lake.put(run_key(run.run, RESULT), result.to_json())


def _find(lake: Store, run: RunSpec, *, whole: bool) -> Found:
    """Read what a run left; what only its page needs is left out unless the ``whole`` is wanted."""
    name = run.run
    plan, labels = find(lake, name, "plan.json", RunPlan), find(lake, name, "labels.json", RunLabels)
    model = find(lake, name, "model/model.json", ModelManifest)
    history = None if model else find(lake, name, "history.json", TrainingHistory)
    revisions = _revisions(lake, run, plan, labels) if plan else {}
    return Found(
        run=run,
        plan=plan,
        labels=labels,
        manifests={stage: {n: one.manifest for n, one in found.items()} for stage, found in revisions.items()},
        sha256={stage: {n: one.sha256 for n, one in found.items()} for stage, found in revisions.items()},
        fresh=find(lake, name, "fresh.json", Fresh),
        found_records=find(lake, name, "found.json", FoundRecords),
        records=find(lake, name, "records.json", RecordSet),
        model=model,
        history=model.history if model else history.epochs if history else (),
        metrics=find(lake, name, "metrics.json", MetricsReport),
        clusters=find(lake, name, "clusters.json", RunClusters),
        spent=find(lake, name, "spent.json", RunSpent),
        curves=find(lake, name, "curves.json", LabelCurves) if whole else None,
        predictions=_predictions(lake, run) if whole else (),
        earlier=find_earlier(lake, run) if whole else None,
    )


def _revisions(
    lake: Store, run: RunSpec, plan: RunPlan, labels: RunLabels | None
) -> dict[Stage, dict[int, commits.Revision]]:
    digest = labels.digest if labels else plan.labels
    recipes: dict[Stage, str | None] = {
        "raw": "",
        "clips": run.video.split_recipe.hash,
        "features": run.video.feature_recipe(digest).hash if digest else None,
    }
    readers = {
        stage: _reader(lake, StageOutput(stage, run.asked.dataset, recipe), plan)
        for stage, recipe in recipes.items()
        if recipe is not None
    }
    wanted = [(stage, shard) for stage in readers for shard in plan.numbers]

    def read(item: tuple[Stage, int]) -> commits.Revision | None:
        return readers[item[0]](item[1])

    found: dict[Stage, dict[int, commits.Revision]] = {stage: {} for stage in STAGES}
    # Thousands of shards are as many requests, and each is little but waiting.
    with ThreadPoolExecutor(READERS) as pool:
        for (stage, shard), revision in zip(wanted, pool.map(read, wanted), strict=True):
            if revision is not None:
                found[stage][shard] = revision
    return found


def _reader(lake: Store, output: StageOutput, plan: RunPlan) -> Callable[[int], commits.Revision | None]:
    """Give what reads a shard's highest revision: of many shards the manifests are listed once, not one by one."""
    shards = len(plan.numbers)
    if shards < MANY or shards * KEYS_A_LISTING < plan.in_range:
        return lambda shard: commits.latest_revision(lake, output.stage, output.dataset, output.recipe_hash, shard)
    listed = list_manifests(lake, output)

    def read(shard: int) -> commits.Revision | None:
        revisions = listed.get(shard)
        return commits.read_revision(lake, revisions[max(revisions)].key) if revisions else None

    return read


def _predictions(lake: Store, run: RunSpec) -> tuple[Prediction, ...]:
    said = find(lake, run.run, "predictions.json", Predictions)
    listed = said.listed.items() if said else ()
    return tuple(Prediction(video, one.labels, tuple(sorted(one.top, key=_by_score))) for video, one in listed)


def _by_score(scored: tuple[str, float]) -> tuple[float, str]:
    return -scored[1], scored[0]


def _shown(lake: Store, found: Found, chosen: Sequence[Prediction]) -> dict[str, Shown]:
    """Put the middle clip of each video beside what is said of it."""
    wanted = {prediction.video for prediction in chosen}
    places = {
        video.key: (manifest, video)
        for manifest in found.manifests.get("clips", {}).values()
        for video in manifest.videos
        if video.key in wanted
    }

    def show(prediction: Prediction) -> Shown:
        place = places.get(prediction.video)
        return Shown(prediction) if place is None else _with_clip(lake, prediction, place)

    with ThreadPoolExecutor(READERS) as pool:
        return {shown.prediction.video: shown for shown in pool.map(show, chosen)}


def _with_clip(lake: Store, prediction: Prediction, place: tuple[Manifest, Video]) -> Shown:
    """Read a clip and a picture of it; what cannot be read or shown is left out, the report is still written."""
    from shardmill.adapters.playable import UnplayableError, playable
    from shardmill.adapters.thumbnails import NoPictureError, thumbnail

    manifest, video = place
    clip = picture = ""
    try:
        content = read_clip(lake, manifest, video, video.clips // 2)
        if content is not None:
            picture = thumbnail(content)
            clip = playable(content)
    except (StoreError, NoPictureError, UnplayableError) as error:
        log.warning("no clip of %r can be shown: %s", prediction.video, error)
    return Shown(prediction, clip, picture)
