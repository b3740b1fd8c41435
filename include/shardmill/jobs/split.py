"""Split a shard: every video into clips, published whole or not at all."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shardmill
from shardmill.adapters import lake as commits
from shardmill.adapters.store import ChangedObjectError, MissingObjectError, Store
from shardmill.core import layout
from shardmill.core.video_keys import labels_of, printable, why_unsafe
from shardmill.specs.manifest import Manifest, Part, Reject, SourceObject, Video
from shardmill.specs.recipes import SplitRecipe

if TYPE_CHECKING:
    from shardmill.adapters.tar import PartFile, Sample
    from shardmill.adapters.video import CutVideo

_REASONS_SHOWN = 3


class TooManyRejectsError(RuntimeError):
    """More of a shard's videos were refused than the run allows."""


class EmptyShardError(RuntimeError):
    """A shard holds no sample."""


@dataclass(frozen=True)
class Outcome:
    """What became of a shard at this stage."""

    shard: int
    skipped: bool
    why: str
    videos: int
    """Videos that became clips."""
    clips: int
    rejects: int
    seconds: float
    """Wall time."""
    revision: int


@dataclass(frozen=True)
class _Task:
    """What is asked for one shard."""

    lake: Store
    raw: commits.Revision
    recipe: SplitRecipe
    revision: int
    folder: Path
    """Scratch."""

    @property
    def dataset(self) -> str:
        return self.raw.manifest.dataset

    @property
    def shard(self) -> int:
        return self.raw.manifest.shard

    @property
    def uri(self) -> str:
        return self.lake.uri_of(self.raw.manifest.parts[0].name)


@dataclass(frozen=True)
class _Cut:
    """What became of one sample."""

    sample: Sample
    video: CutVideo | None = None
    reject: Reject | None = None


def split_shard(
    lake: Store,
    dataset: str,
    shard: int,
    recipe: SplitRecipe,
    *,
    max_reject_share: float,
    workers: int = 0,
    scratch: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Cut the videos of one shard, unless this recipe's clips were made from this very revision of it.

    Args:
        max_reject_share: the shard fails when more than this share of its samples is refused.
        workers: videos that are cut at once; 0 for one a core.
        scratch: folder for temporary files; None for the system's.
        progress: gets a line for each sample.

    Raises:
        MissingObjectError: the shard is not in the lake.
        DamagedTarError: the shard's tar is not whole.
        TooManyRejectsError, EmptyShardError: nothing is published.
        LostRaceError: another writer committed this revision; do it again.
    """
    started = time.monotonic()
    raw = commits.latest_revision(lake, "raw", dataset, "", shard)
    if raw is None:
        raise MissingObjectError(f"shard {shard:06d} of {dataset} is not in {lake.uri}: ingest it first")
    before = commits.latest_revision(lake, "clips", dataset, recipe.hash, shard)
    if before is not None and before.manifest.source.version == raw.sha256:
        return _outcome(before.manifest, started, skipped="present, made from the same source")
    revision = before.manifest.revision + 1 if before else 0
    with tempfile.TemporaryDirectory(prefix="shardmill-split-", dir=scratch) as folder:
        task = _Task(lake, raw, recipe, revision, Path(folder))
        manifest = _build(task, workers or len(os.sched_getaffinity(0)), progress)
    if len(manifest.rejects) > max_reject_share * manifest.samples_in:
        raise TooManyRejectsError(_complaint(manifest, max_reject_share))
    return _outcome(commits.commit(lake, manifest).manifest, started, why="the source changed" if before else "new")


def _outcome(manifest: Manifest, started: float, *, skipped: str = "", why: str = "") -> Outcome:
    return Outcome(
        shard=manifest.shard,
        skipped=bool(skipped),
        why=skipped or why,
        videos=len(manifest.videos),
        clips=sum(video.clips for video in manifest.videos),
        rejects=len(manifest.rejects),
        seconds=time.monotonic() - started,
        revision=manifest.revision,
    )


def _complaint(manifest: Manifest, max_reject_share: float) -> str:
    first = "; ".join(
        f"{reject.key!r}: {reject.reason}: {reject.message}" for reject in manifest.rejects[:_REASONS_SHOWN]
    )
    return (
        f"shard {manifest.shard:06d}: {len(manifest.rejects)} of {manifest.samples_in} samples were refused, more than "
        f"the allowed share of {max_reject_share:g}; nothing was published. The first: {first}"
    )


def _build(task: _Task, workers: int, progress: Callable[[str], None]) -> Manifest:
    from shardmill.adapters.tar import check_tar
    from shardmill.adapters.video import tools

    source = task.folder / "source.tar"
    _fetch(task, source)
    check_tar(source, task.uri)
    publication = _Publication(task)
    for cut in _cut_all(task, source, workers):
        progress(publication.add(cut))
    publication.close_part()
    samples = len(publication.videos) + len(publication.rejects)
    if not samples:
        raise EmptyShardError(f"expected videos in {task.uri}, found no sample")
    return Manifest(
        stage="clips",
        dataset=task.dataset,
        shard=task.shard,
        revision=task.revision,
        recipe_hash=task.recipe.hash,
        recipe=task.recipe.model_dump(),
        source=SourceObject(uri=task.uri, size=task.raw.manifest.parts[0].size, version=task.raw.sha256),
        tools={**tools(), "shardmill": shardmill.__version__},
        samples_in=samples,
        parts=tuple(publication.parts),
        videos=tuple(publication.videos),
        rejects=tuple(publication.rejects),
    )


def _fetch(task: _Task, path: Path) -> None:
    (part,) = task.raw.manifest.parts
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in task.lake.stream(part.name):
            file.write(chunk)
            digest.update(chunk)
    if digest.hexdigest() != part.sha256:
        raise ChangedObjectError(
            f"{task.uri}: expected the SHA-256 {part.sha256}, found {digest.hexdigest()}: ingest the shard again"
        )


def _cut_all(task: _Task, source: Path, workers: int) -> Iterator[_Cut]:
    """Yield what became of each sample, in the order of the shard, a few videos being cut ahead."""
    from shardmill.adapters.tar import read_samples

    stop = threading.Event()
    seen: set[str] = set()
    ahead: deque[tuple[Path, Future[_Cut]]] = deque()
    pool = ThreadPoolExecutor(workers, "split")
    try:
        for index, sample in enumerate(read_samples(source)):
            refused = _refuse(sample, seen)
            folder = task.folder / f"{index:06d}"
            folder.mkdir()
            (folder / "video").write_bytes(b"" if refused else sample.video)
            sample = sample.without_video()
            ahead.append((folder, pool.submit(_cut_one, task, sample, refused, folder, stop)))
            while len(ahead) > 2 * workers:
                yield from _finished(*ahead.popleft())
        while ahead:
            yield from _finished(*ahead.popleft())
    finally:
        stop.set()  # after an error or a signal nobody waits for the videos that are under way
        pool.shutdown(cancel_futures=True)
