"""Split a shard: every video into clips, published whole or not at all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import shardmill
from shardmill.adapters import lake as commits
from shardmill.adapters.shard_stream import ShardStream
from shardmill.adapters.store import DamagedObjectError, MissingObjectError, Store, StoreSettings
from shardmill.adapters.tar_stream import TarStream
from shardmill.adapters.video.pieces import Pieces
from shardmill.adapters.video.slots import tools
from shardmill.core import layout
from shardmill.core.rejects import (
    ReconcileError,
    RejectsMayPassError,
    TooManyRejectsError,
    check_reconciled,
    check_rejects,
    may_pass,
)
from shardmill.core.tar_header import DamagedTarError
from shardmill.jobs.split.cases import Case, OtherSourceError, Position, Samples, Wanted
from shardmill.jobs.split.cutting import SLOT, Cutter, OpenCutter, cut_case, cutting
from shardmill.jobs.split.progress import Progress
from shardmill.jobs.split.publication import MEGABYTE, Publication
from shardmill.jobs.split.window import Window
from shardmill.specs.manifest import Draft, Manifest, Reject, Video
from shardmill.specs.recipes import SplitRecipe

READS = 3
"""Times that a shard is read before it counts as damaged: a byte may flip on the way."""
WINDOW_BYTES = 64 * 1024 * 1024
"""Of scratch for videos and clips in flight, beside a quarter of a part."""


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
    video_seconds: float = 0
    """No video may take longer to cut; 0 for a limit by its size."""
    footage: Callable[[str, Path], None] | None = None
    """Gets the key of each video and an .npz of its footage (see `clip_reading`) from the threads that wait for its
    clips, before these are published; the file is gone then."""
    scratch: Path | None = None
    """Folder for temporary files; None for a good one."""
    settings: StoreSettings | None = None
    """How the source is reached."""
    retry_of: int | None = None
    """Revision whose rejects are tried once more, those that may pass by themselves; None for no retry."""
    progress: Callable[[str], None] = lambda line: None
    """Gets a line for each sample."""
    watch: Callable[[str], None] = lambda line: None
    """Gets a line every ten seconds: how far the shard is."""
    open_cutter: OpenCutter = SLOT
    """Opens what cuts videos."""

    @property
    def pool(self) -> int:
        """How many videos are cut at once."""
        return self.workers or len(os.sched_getaffinity(0))


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
        DamagedObjectError: its bytes are not what they should be, however often they are read.
        SlotError, SandboxError: this machine cannot cut videos.
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
    """Make the parts. What looks damaged is read once more: of many sources no checksum is known."""
    draft = task.draft
    writer = commits.ShardWriter(task.lake, draft, f"{draft.dataset}-clips-{layout.shard_name(draft.shard)}", ".tar")
    for read in range(1, READS + 1):
        try:
            return _read_and_cut(task, writer)
        except (OtherSourceError, DamagedObjectError, ReconcileError) as error:
            # Some of the parts were made of bytes that are not the source's: nothing may go on behind them.
            writer.forget(0)
            if read == READS:
                raise
            task.how.progress(f"read again: {error}")
        except DamagedTarError as error:
            if read > 1:
                raise
            task.how.progress(f"read again: {error}")
    raise AssertionError("the last reading returns or raises")


def _read_and_cut(task: _Task, writer: commits.ShardWriter) -> Manifest:
    draft, how, retried = task.draft, task.how, task.retried
    receipts = writer.resume()
    begins = Position(receipts[-1].source_offset, receipts[-1].source_sha256) if receipts else None
    keys = None if retried is None else {reject.key for reject in retried.rejects if may_pass(reject)}
    wanted = Wanted(writer.next_sample(), begins, keys)
    stream = ShardStream(task.lake, task.raw, how.settings)
    window = Window(task.recipe.max_part_mb * MEGABYTE // 4 + WINDOW_BYTES)
    tar = TarStream(_while_wanted(stream.chunks(), window), draft.source.uri)
    progress = Progress(draft.shard, draft.source.size, how.watch)
    with task.lake.scratch("split-", how.scratch) as scratch, Publication(writer, task.recipe, scratch) as publication:
        samples = Samples(tar, scratch, wanted, window)

        def read(window: Window) -> None:
            for case in samples.cases():
                window.put(case)
            stream.settle(tar.sha256, window.check)

        def cut(cutter: Cutter, case: Case) -> Pieces | Reject:
            result = cut_case(cutter, case, seconds=how.video_seconds, footage=how.footage is not None)
            if how.footage is None or isinstance(result, Reject):
                return result
            how.footage(case.key, result.footage)  # here, for in the order of the shard most of it would come last
            return result.without_footage()

        cutters = [how.open_cutter(task.recipe, scratch / f"slot-{number}") for number in range(how.pool)]
        with cutting(read, window, cutters, cut):
            if receipts:
                how.progress(f"{len(receipts)} parts are there: going on behind sample {wanted.first - 1}")
            for case, result in window.results():
                done = publication.add(case, result)
                tools()  # asks a program, once: here, while others cut; at the end all would wait for it
                how.progress(_tell(done))
                progress.add(done, case.begins.offset)
        publication.close(samples.count, samples.here)
    made = {**draft.model_dump(), "tools": {**tools(), "shardmill": shardmill.__version__}}
    manifest = _added(retried, publication, made) if retried else _manifest(samples.count, publication, made)
    check_reconciled(manifest)
    _check_rejects(manifest, writer, how.max_reject_share)
    return manifest


def _while_wanted(chunks: Iterator[bytes], window: Window) -> Iterator[bytes]:
    for chunk in chunks:
        window.check()
        yield chunk


def _tell(done: Video | Reject) -> str:
    if isinstance(done, Reject):
        return f"{done.key}: refused: {done.reason}: {done.message}"
    copied = ", taken over as it is" if done.copied else ""
    return f"{done.key}: {done.clips} clips, {done.frames} frames, {done.seconds:.3f} s{copied}"


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
            "parts": publication.parts(),
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
            "parts": (*retried.parts, *publication.parts()),
            "videos": (*retried.videos, *videos),
            "rejects": (*final, *publication.rejects),
        }
    )
