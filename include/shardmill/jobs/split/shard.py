"""Split a shard: every video into clips, published whole or not at all."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import shardmill
from shardmill.adapters import lake as commits
from shardmill.adapters.source import SourceReader
from shardmill.adapters.store import MissingObjectError, Store, StoreSettings, fetch_checked
from shardmill.core import layout
from shardmill.core.rejects import RejectsMayPassError, TooManyRejectsError, check_reconciled, check_rejects, may_pass
from shardmill.jobs.split.cases import Samples, Wanted, cut
from shardmill.jobs.split.publication import Publication
from shardmill.specs.manifest import Draft, Manifest
from shardmill.specs.recipes import SplitRecipe


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
class Splitting:
    """How shards are split."""

    max_reject_share: float = 1.0
    """A shard fails when more than this share of its samples is refused."""
    workers: int = 0
    """Videos that are cut at once; 0 for one a core."""
    scratch: Path | None = None
    """Folder for temporary files; None for a good one."""
    settings: StoreSettings | None = None
    """How the source is reached."""
    retry_of: int | None = None
    """Revision whose rejects are tried once more, those that may pass by themselves; None for no retry."""
    progress: Callable[[str], None] = lambda line: None
    """Gets a line for each sample."""


@dataclass(frozen=True)
class _Task:
    """What is asked for one shard."""

    lake: Store
    raw: Manifest
    recipe: SplitRecipe
    draft: Draft
    before: Manifest | None
    how: Splitting

    @property
    def retried(self) -> Manifest | None:
        """The revision whose rejects are tried again."""
        same = self.before is not None and self.before.source == self.draft.source
        return self.before if same else None


def split_shard(lake: Store, dataset: str, shard: int, recipe: SplitRecipe, how: Splitting | None = None) -> Outcome:
    """Cut the videos of one shard, unless this recipe's clips were made from this very version of its source.

    Raises:
        MissingObjectError: the shard was not ingested.
        ChangedObjectError: it is only referenced, and changed at its source.
        DamagedTarError: the shard's tar is not whole.
        TooManyRejectsError, RejectsMayPassError, EmptyShardError: no revision is committed.
    """
    return commits.until_won(lambda: _split(lake, dataset, shard, recipe, how or Splitting()))


def _split(lake: Store, dataset: str, shard: int, recipe: SplitRecipe, how: Splitting) -> Outcome:
    started = time.monotonic()
    # First what is there, then what to make it of: the other way round an older source could become the newer revision.
    found = commits.latest_revision(lake, "clips", dataset, recipe.hash, shard)
    raw = commits.latest_revision(lake, "raw", dataset, "", shard)
    if raw is None:
        raise MissingObjectError(f"shard {shard:06d} of {dataset} is not in {lake.uri}: ingest it first")
    before = found.manifest if found else None
    same = before is not None and before.source == raw.manifest.source
    if before is not None and same and not _retries(before, how):
        return _outcome(before, started, skipped=True, why="present, made from the same source")
    draft = Draft(
        stage="clips",
        dataset=dataset,
        shard=shard,
        revision=before.revision + 1 if before else 0,
        recipe_hash=recipe.hash,
        recipe=recipe.model_dump(),
        source=raw.manifest.source,
    )
    manifest = _build(_Task(lake, raw.manifest, recipe, draft, before, how))
    if not manifest.samples_in:
        raise EmptyShardError(f"expected videos in {draft.source.uri}, found no sample")
    committed = commits.commit(lake, manifest).manifest
    why = "its rejects were tried again" if same else "the source changed" if before else "new"
    return _outcome(committed, started, skipped=False, why=why)


def _retries(before: Manifest, how: Splitting) -> bool:
    return how.retry_of == before.revision and any(may_pass(reject) for reject in before.rejects)


def _outcome(manifest: Manifest, started: float, *, skipped: bool, why: str) -> Outcome:
    return Outcome(
        shard=manifest.shard,
        skipped=skipped,
        why=why,
        videos=len(manifest.videos),
        clips=sum(video.clips for video in manifest.videos),
        rejects=len(manifest.rejects),
        seconds=time.monotonic() - started,
        revision=manifest.revision,
    )


def _build(task: _Task) -> Manifest:
    from shardmill.adapters.video import tools
    from shardmill.adapters.video.ahead import work_ahead

    draft, retried = task.draft, task.retried
    stem = f"{draft.dataset}-clips-{layout.shard_name(draft.shard)}"
    writer = commits.ShardWriter(task.lake, draft, stem, ".tar")
    workers = task.how.workers or len(os.sched_getaffinity(0))
    with task.lake.scratch("split-", task.how.scratch) as scratch:
        tar = scratch / "source.tar"
        _fetch_whole(task, tar)
        publication = Publication(writer, task.recipe, scratch)
        if done := writer.next_sample():
            task.how.progress(f"{len(publication.parts)} parts are there: going on behind sample {done - 1}")
        keys = None if retried is None else {reject.key for reject in retried.rejects if may_pass(reject)}
        samples = Samples(tar, scratch, Wanted(done, keys))
        for case, result in work_ahead(samples.cases(), lambda case, stop: cut(task.recipe, case, stop), workers):
            task.how.progress(publication.add(case, result))
            shutil.rmtree(case.folder, ignore_errors=True)
        publication.close(samples.count)
    made = {**draft.model_dump(), "tools": {**tools(), "shardmill": shardmill.__version__}}
    manifest = _added(retried, publication, made) if retried else _manifest(samples.count, publication, made)
    check_reconciled(manifest)
    _check_rejects(manifest, writer, task.how.max_reject_share)
    return manifest


def _check_rejects(manifest: Manifest, writer: commits.ShardWriter, limit: float) -> None:
    """Refuse a shard of which too much was refused; what may pass by itself is not in the way of another try."""
    try:
        check_rejects(manifest.rejects, manifest.samples_in, limit, manifest.shard)
    except (TooManyRejectsError, RejectsMayPassError):
        for number, receipt in enumerate(writer.resume()):
            if any(may_pass(reject) for reject in receipt.rejects):
                writer.forget(number)
                break
        raise


def _manifest(samples_in: int, publication: Publication, made: dict[str, object]) -> Manifest:
    return Manifest.model_validate(
        {
            **made,
            "samples_in": samples_in,
            "parts": tuple(publication.parts),
            "videos": tuple(publication.videos),
            "rejects": tuple(publication.rejects),
        }
    )


def _added(retried: Manifest, publication: Publication, made: dict[str, object]) -> Manifest:
    """Give the revision before with what became of its retried samples."""
    parts = len(retried.parts)
    videos = [video.model_copy(update={"part": parts + video.part}) for video in publication.videos]
    final = [reject for reject in retried.rejects if not may_pass(reject)]
    return Manifest.model_validate(
        {
            **made,
            "samples_in": retried.samples_in,
            "parts": (*retried.parts, *publication.parts),
            "videos": (*retried.videos, *videos),
            "rejects": (*final, *publication.rejects),
        }
    )


def _fetch_whole(task: _Task, tar: Path) -> None:
    """Bring the shard here. What looks damaged is read once more: of many sources no checksum is known."""
    from shardmill.adapters.tar_check import check_tar
    from shardmill.core.tar_header import DamagedTarError

    for is_last in (False, True):
        with tar.open("wb") as file:
            _fetch(task, file)
        try:
            check_tar(tar, task.draft.source.uri)
            return
        except DamagedTarError:
            if is_last:
                raise


def _fetch(task: _Task, file: BinaryIO) -> None:
    for part in task.raw.parts:
        fetch_checked(task.lake, part.name, part.sha256, file)
    if not task.raw.parts:
        SourceReader(task.draft.source, task.how.settings).fetch(file)
