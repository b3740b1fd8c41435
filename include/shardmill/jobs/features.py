"""Make the records of a shard: one YouTube-8M SequenceExample for each of its videos."""

from __future__ import annotations

import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from os import sched_getaffinity
from pathlib import Path
from typing import Protocol

import numpy as np

from shardmill.adapters import lake as commits
from shardmill.adapters.records import Record, write_records
from shardmill.adapters.store import MissingObjectError, Store, StoreSettings
from shardmill.core import layout, logmel
from shardmill.core.borders import crop_padding
from shardmill.core.labels import LabelTable
from shardmill.core.quantise import quantise
from shardmill.core.rejects import check_rejects
from shardmill.core.subsets import subset_of
from shardmill.specs.manifest import Manifest, Part, Reject, SourceObject, Subset, Video
from shardmill.specs.recipes import FeatureRecipe

PART_BYTES = 128 * 1024 * 1024
"""A part is closed when its frames reach so many bytes."""

DAMAGED = "damaged"


class ReconcileError(RuntimeError):
    """A shard's clips are not what its manifest says."""


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


class VideoClips(Protocol):
    """The clips of one video, as read from the clips' shards."""

    @property
    def key(self) -> str: ...
    @property
    def clips(self) -> Sequence[bytes]: ...
    @property
    def numbers(self) -> Sequence[int]: ...


@dataclass(frozen=True, eq=False)
class _Described:
    """A video's record before labels and subset, or why there is none."""

    key: str
    clips: int
    seconds: float = 0.0
    rgb: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    audio: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    failure: str = ""


@dataclass
class _Parts:
    """Collects the records of each subset and publishes a part whenever one is full."""

    lake: Store
    folder: str
    stem: str
    scratch: Path
    published: list[Part] = field(default_factory=list)
    waiting: dict[Subset, list[Record]] = field(default_factory=lambda: {"train": [], "validation": []})
    waiting_bytes: Counter[Subset] = field(default_factory=Counter)

    def add(self, subset: Subset, record: Record) -> None:
        self.waiting[subset].append(record)
        self.waiting_bytes[subset] += record.rgb.nbytes + record.audio.nbytes
        if self.waiting_bytes[subset] >= PART_BYTES:
            self._publish(subset)

    def _publish(self, subset: Subset) -> None:
        path = self.scratch / f"{len(self.published):06d}.tfrecord"
        part = commits.put_part(
            self.lake,
            path,
            folder=self.folder,
            stem=f"{self.stem}-{len(self.published):06d}",
            suffix=path.suffix,
            samples=write_records(path, self.waiting[subset]),
            subset=subset,
        )
        path.unlink()
        self.published.append(part)
        self.waiting[subset].clear()
        self.waiting_bytes[subset] = 0

    def close(self) -> tuple[Part, ...]:
        """Publish what is left."""
        for subset, records in self.waiting.items():
            if records:
                self._publish(subset)
        return tuple(self.published)


def featurize_shard(
    lake: Store,
    dataset: str,
    shard: int,
    recipe: FeatureRecipe,
    labels: LabelTable,
    *,
    max_reject_share: float = 1.0,
    workers: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    settings: StoreSettings | None = None,
) -> Outcome:
    """Turn the clips of one shard into records, unless its records were made from these very clips.

    Args:
        labels: the table whose digest the recipe holds.
        max_reject_share: the shard fails when more than this share of its videos cannot be decoded.
        workers: threads that decode clips; 0 for one a core.
        progress: called after each video with the videos done and their total.
        settings: how S3 is reached for the extractor's weights and projection.

    Raises:
        MissingObjectError: the shard has no clips of the recipe.
        ExtractorError: the recipe's extractor cannot be made.
        TooManyRejectsError: nothing is published.
        LostRaceError: another writer committed this revision; do it again.
    """
    from shardmill.adapters.extractors import make_extractor
    from shardmill.adapters.tar import read_clips

    started = time.monotonic()
    if labels.digest != recipe.labels:
        raise ValueError(f"labels: the recipe was made for the table {recipe.labels}, found {labels.digest}")
    clips = commits.latest_revision(lake, "clips", dataset, recipe.split.hash, shard)
    if clips is None:
        raise MissingObjectError(f"shard {shard:06d} has no clips of recipe {recipe.split.hash}: split it first")
    before = commits.latest_revision(lake, "features", dataset, recipe.hash, shard)
    if before is not None and before.manifest.source.version == clips.sha256:
        return _outcome(before.manifest, started, skipped=True, why="its records were made from these very clips")
    extract = make_extractor(recipe, settings)
    revision = before.manifest.revision + 1 if before else 0
    videos = _described(read_clips(lake, clips.manifest), extract, recipe, workers or len(sched_getaffinity(0)))
    manifest = _publish(lake, clips, _counted(videos, len(clips.manifest.videos), progress), (recipe, labels, revision))
    damaged = [reject for reject in manifest.rejects if reject.reason == DAMAGED]
    check_rejects(damaged, manifest.samples_in, max_reject_share, shard)
    manifest = commits.commit(lake, manifest).manifest
    return _outcome(manifest, started, skipped=False, why="its clips changed" if before else "new")


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


def _described(
    videos: Iterable[VideoClips], extract: Callable[[np.ndarray], np.ndarray], recipe: FeatureRecipe, workers: int
) -> Iterator[_Described]:
    """Describe videos in their order; decoding runs ahead in threads (libav lets go of the interpreter)."""
    from shardmill.adapters.clip_reading import ClipError, Footage, read_footage

    def read(video: VideoClips) -> Footage | ClipError:
        try:
            return read_footage(
                video.clips, video.numbers, clip_seconds=recipe.split.clip_seconds, max_frames=recipe.max_frames
            )
        except ClipError as error:
            return error

    def finish(video: VideoClips, footage: Footage | ClipError) -> _Described:
        if isinstance(footage, ClipError):
            return _Described(video.key, len(video.clips), failure=str(footage))
        rgb = quantise(extract(crop_padding(footage.frames)))
        audio = quantise(np.stack([logmel.describe_second(samples) for samples in footage.sound]))
        return _Described(video.key, len(video.clips), footage.seconds, rgb, audio)

    ahead: deque[tuple[VideoClips, Future[Footage | ClipError]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for video in videos:
            ahead.append((video, pool.submit(read, video)))
            if len(ahead) > 2 * workers:
                first, future = ahead.popleft()
                yield finish(first, future.result())
        while ahead:
            first, future = ahead.popleft()
            yield finish(first, future.result())


def _counted(videos: Iterator[_Described], total: int, progress: Callable[[int, int], None]) -> Iterator[_Described]:
    done = 0
    for video in videos:
        done += 1
        yield video
        progress(done, total)
    if done != total:
        raise ReconcileError(
            f"expected {total} videos, as the clips' manifest says, found {done}: split the shard again"
        )


def _publish(
    lake: Store,
    clips: commits.Revision,
    described: Iterator[_Described],
    asked: tuple[FeatureRecipe, LabelTable, int],
) -> Manifest:
    recipe, labels, revision = asked
    dataset, shard = clips.manifest.dataset, clips.manifest.shard
    folder = layout.part_folder(layout.stage_folder("features", dataset, recipe.hash), shard, revision)
    videos: list[Video] = []
    rejects: list[Reject] = []
    with tempfile.TemporaryDirectory(prefix="shardmill-features-") as scratch:
        parts = _Parts(lake, folder, f"{dataset}-{layout.shard_name(shard)}", Path(scratch))
        for video in described:
            numbers, subset = labels.labels_of(video.key), subset_of(video.key, recipe.validation_share)
            if video.failure or not numbers:
                rejects.append(_reject(video))
                continue
            parts.add(subset, Record(video.key, numbers, video.rgb, video.audio))
            videos.append(
                Video(
                    key=video.key,
                    clips=video.clips,
                    frames=len(video.rgb),
                    seconds=round(video.seconds, 3),
                    labels=labels.names_of(video.key),
                    subset=subset,
                )
            )
        published = parts.close()
    return _manifest(lake, clips, recipe, revision).model_copy(
        update={"parts": published, "videos": tuple(videos), "rejects": tuple(rejects)}
    )


def _reject(video: _Described) -> Reject:
    if video.failure:
        return Reject(key=video.key, reason=DAMAGED, message=f"its clips cannot be decoded: {video.failure}")
    return Reject(
        key=video.key, reason="no_label", message="expected the video in the label table, found it unlabelled"
    )


def _manifest(lake: Store, clips: commits.Revision, recipe: FeatureRecipe, revision: int) -> Manifest:
    from shardmill.adapters.clip_reading import tools

    source = clips.manifest
    folder = layout.stage_folder("clips", source.dataset, source.recipe_hash)
    return Manifest(
        stage="features",
        dataset=source.dataset,
        shard=source.shard,
        revision=revision,
        recipe_hash=recipe.hash,
        recipe=recipe.model_dump(mode="json"),
        source=SourceObject(
            uri=lake.uri_of(layout.manifest_key(folder, source.shard, source.revision)),
            size=len(source.to_json()),
            version=clips.sha256,
        ),
        tools={**tools(), "numpy": np.__version__},
        samples_in=len(source.videos),
        parts=(),
    )
