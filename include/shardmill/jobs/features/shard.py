"""Make the records of a shard: one YouTube-8M SequenceExample for each of its videos."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from os import sched_getaffinity

import numpy as np

from shardmill.adapters import lake as commits
from shardmill.adapters.records import Record
from shardmill.adapters.store import MissingObjectError, Store, StoreSettings
from shardmill.core import layout
from shardmill.core.labels import LabelTable
from shardmill.core.rejects import ReconcileError, check_reconciled, check_rejects
from shardmill.core.subsets import subset_of
from shardmill.jobs.features.describing import Described, VideoClips, describe
from shardmill.jobs.features.prepared import Prepared
from shardmill.jobs.features.publication import Publication
from shardmill.specs.manifest import Draft, Manifest, Reject, SourceObject, Video
from shardmill.specs.recipes import FeatureRecipe

DAMAGED = "damaged"


@dataclass(frozen=True)
class Outcome:
    """What became of a shard at this stage."""

    shard: int
    skipped: bool
    why: str
    videos: int
    """Videos that came as clips."""
    records: int
    rejects: int
    seconds: float
    """Wall time."""
    revision: int


@dataclass(frozen=True)
class Featurizing:
    """How records are made."""

    max_reject_share: float = 1.0
    """A shard fails when more than this share of its videos cannot be decoded."""
    workers: int = 0
    """Threads that decode clips; 0 for one a core."""
    progress: Callable[[int, int], None] = lambda done, total: None
    """Called after each video with the videos done and their total."""
    settings: StoreSettings | None = None
    """How S3 is reached for the extractor's weights and projection."""
    prepared: Prepared | None = None
    """Videos that were described when they were cut."""


@dataclass(frozen=True)
class _Task:
    """What is asked for one shard."""

    lake: Store
    clips: Manifest
    recipe: FeatureRecipe
    labels: LabelTable
    draft: Draft
    how: Featurizing


def featurize_shard(
    lake: Store,
    where: tuple[str, int],
    recipe: FeatureRecipe,
    labels: LabelTable,
    how: Featurizing | None = None,
) -> Outcome:
    """Turn the clips of one shard into records, unless its records were made from these very clips.

    Args:
        where: data set and number of the shard.
        labels: the table whose digest the recipe holds.

    Raises:
        MissingObjectError: the shard has no clips of the recipe.
        DamagedObjectError: a part of the clips is not what their manifest says.
        ExtractorError: the recipe's extractor cannot be made.
        TooManyRejectsError: no revision is committed.
    """
    if labels.digest != recipe.labels:
        raise ValueError(f"labels: the recipe was made for the table {recipe.labels}, found {labels.digest}")
    return commits.until_won(lambda: _featurize(lake, where, recipe, labels, how or Featurizing()))


def _featurize(
    lake: Store, where: tuple[str, int], recipe: FeatureRecipe, labels: LabelTable, how: Featurizing
) -> Outcome:
    started = time.monotonic()
    dataset, shard = where
    # First what is there, then what to make it of: the other way round older clips could become the newer revision.
    before = commits.latest_revision(lake, "features", dataset, recipe.hash, shard)
    clips = commits.latest_revision(lake, "clips", dataset, recipe.split.hash, shard)
    if clips is None:
        raise MissingObjectError(f"shard {shard:06d} has no clips of recipe {recipe.split.hash}: split it first")
    if before is not None and before.manifest.source.version == clips.sha256:
        return _outcome(before.manifest, started, skipped=True, why="its records were made from these very clips")
    draft = Draft(
        stage="features",
        dataset=dataset,
        shard=shard,
        revision=before.manifest.revision + 1 if before else 0,
        recipe_hash=recipe.hash,
        recipe=recipe.model_dump(mode="json"),
        source=SourceObject(uri=lake.uri_of(clips.key), size=len(clips.manifest.to_json()), version=clips.sha256),
    )
    manifest = _build(_Task(lake, clips.manifest, recipe, labels, draft, how))
    damaged = [reject for reject in manifest.rejects if reject.reason == DAMAGED]
    check_rejects(damaged, manifest.samples_in, how.max_reject_share, shard)
    committed = commits.commit(lake, manifest).manifest
    return _outcome(committed, started, skipped=False, why="its clips changed" if before else "new")


def _outcome(manifest: Manifest, started: float, *, skipped: bool, why: str) -> Outcome:
    return Outcome(
        shard=manifest.shard,
        skipped=skipped,
        why=why,
        videos=manifest.samples_in,
        records=len(manifest.videos),
        rejects=len(manifest.rejects),
        seconds=time.monotonic() - started,
        revision=manifest.revision,
    )


def _build(task: _Task) -> Manifest:
    from shardmill.adapters.clip_reading import tools

    order = {video.key: index for index, video in enumerate(task.clips.videos)}
    stem = f"{task.draft.dataset}-{layout.shard_name(task.draft.shard)}"
    writer = commits.ShardWriter(task.lake, task.draft, stem, ".tfrecord")
    with task.lake.scratch("features-") as scratch:
        publication = Publication(writer, task.recipe, scratch)
        for video in _described(task, publication, order):
            _take_in(task, publication, order[video.key], video)
        publication.close(len(order))
    manifest = Manifest(
        **task.draft.model_dump(),
        tools={**tools(), "numpy": np.__version__},
        samples_in=len(task.clips.videos),
        parts=tuple(publication.parts),
        videos=tuple(publication.videos(order)),
        rejects=tuple(publication.rejects(order)),
    )
    check_reconciled(manifest)
    return manifest


def _described(task: _Task, publication: Publication, order: dict[str, int]) -> Iterator[Described]:
    """Describe, in their order, the videos that no earlier try dealt with."""
    prepared = task.how.prepared
    wanted = [
        video
        for video in task.clips.videos
        if not publication.is_done(subset_of(video.key, task.recipe.validation_share), order[video.key])
    ]
    rest = {video.key: video.part for video in wanted if prepared is None or video.key not in prepared}
    decoded = _decoded(task, rest)
    done = len(order) - len(wanted)
    for video in wanted:
        if prepared is not None and video.key in prepared:
            yield prepared.give(video.key, video.clips)
        else:
            found = next(decoded, None)
            if found is None or found.key != video.key:
                held = "nothing" if found is None else repr(found.key)
                shard = f"the clips of shard {task.draft.shard:06d}"
                raise ReconcileError(f"{shard} hold {held} where their manifest says {video.key!r}")
            yield found
        done += 1
        task.how.progress(done, len(order))


def _decoded(task: _Task, wanted: Mapping[str, int]) -> Iterator[Described]:
    """Decode the clips of some videos; parts that hold none of them are not read."""
    from shardmill.adapters.extractors import make_extractor
    from shardmill.adapters.tar import read_clips

    if not wanted:
        return
    extract = make_extractor(task.recipe, task.how.settings)
    known = {video.key for video in task.clips.videos}

    def missing() -> Iterator[VideoClips]:
        for video in read_clips(task.lake, task.clips, set(wanted.values())):
            if video.key not in known:
                raise ReconcileError(
                    f"the clips of shard {task.draft.shard:06d} hold {video.key!r}, their manifest does not"
                )
            if video.key in wanted:
                yield video

    yield from describe(missing(), extract, task.recipe, task.how.workers or len(sched_getaffinity(0)))


def _take_in(task: _Task, publication: Publication, index: int, video: Described) -> None:
    numbers, subset = task.labels.labels_of(video.key), subset_of(video.key, task.recipe.validation_share)
    if video.failure:
        message = f"its clips cannot be decoded: {video.failure}"
        publication.refuse(subset, Reject(key=video.key, reason=DAMAGED, message=message))
    elif not numbers:
        message = "expected the video in the label table, found it unlabelled"
        publication.refuse(subset, Reject(key=video.key, reason="no_label", message=message))
    else:
        described = Video(
            key=video.key,
            clips=video.clips,
            frames=len(video.rgb),
            seconds=round(video.seconds, 3),
            labels=task.labels.names_of(video.key),
            subset=subset,
        )
        publication.add(subset, index, Record(video.key, numbers, video.rgb, video.audio), described)
