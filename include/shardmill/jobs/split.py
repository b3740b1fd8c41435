"""Split a shard: every video into clips, published whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shardmill
from shardmill.adapters import lake as commits
from shardmill.adapters.store import ChangedObjectError, MissingObjectError, Store
from shardmill.core import layout
from shardmill.core.rejects import check_rejects
from shardmill.core.video_keys import labels_of, printable, why_unsafe
from shardmill.specs.manifest import Manifest, Part, Reject, SourceObject, Video
from shardmill.specs.recipes import SplitRecipe

if TYPE_CHECKING:
    from shardmill.adapters.tar import PartFile
    from shardmill.adapters.video import CutVideo

_NO_INFO = b"{}"


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
    scratch: Path

    @property
    def uri(self) -> str:
        return self.lake.uri_of(self.raw.manifest.parts[0].name)


@dataclass(frozen=True)
class _Case:
    """A sample whose video, if it has a usable key and one at all, lies in a scratch folder of a numeric name."""

    key: str
    name: str
    """What the video is called in the shard."""
    info: bytes
    folder: Path
    refused: Reject | None = None


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
        return _outcome(before.manifest, started, skipped=True, why="present, made from the same source")
    with tempfile.TemporaryDirectory(prefix="shardmill-split-", dir=scratch) as folder:
        task = _Task(lake, raw, recipe, before.manifest.revision + 1 if before else 0, Path(folder))
        manifest = _build(task, workers or len(os.sched_getaffinity(0)), progress)
    _check_rejects(manifest, max_reject_share, task.uri)
    manifest = commits.commit(lake, manifest).manifest
    return _outcome(manifest, started, skipped=False, why="the source changed" if before else "new")


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


def _check_rejects(manifest: Manifest, max_reject_share: float, uri: str) -> None:
    if not manifest.samples_in:
        raise EmptyShardError(f"expected videos in {uri}, found no sample")
    check_rejects(manifest.rejects, manifest.samples_in, max_reject_share, manifest.shard)


def _build(task: _Task, workers: int, progress: Callable[[str], None]) -> Manifest:
    from shardmill.adapters.tar_check import check_tar
    from shardmill.adapters.video import tools
    from shardmill.adapters.video.ahead import work_ahead

    tar = task.scratch / "source.tar"
    _fetch(task, tar)
    check_tar(tar, task.uri)
    publication = _Publication(task)
    for case, result in work_ahead(_cases(task, tar), lambda case, stop: _cut(task.recipe, case, stop), workers):
        progress(publication.add(case, result))
        shutil.rmtree(case.folder, ignore_errors=True)
    raw = task.raw.manifest
    return Manifest(
        stage="clips",
        dataset=raw.dataset,
        shard=raw.shard,
        revision=task.revision,
        recipe_hash=task.recipe.hash,
        recipe=task.recipe.model_dump(),
        source=SourceObject(uri=task.uri, size=raw.parts[0].size, version=task.raw.sha256),
        tools={**tools(), "shardmill": shardmill.__version__},
        samples_in=len(publication.videos) + len(publication.rejects),
        parts=tuple(publication.close()),
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


def _cases(task: _Task, tar: Path) -> Iterator[_Case]:
    from shardmill.adapters.tar import VIDEO_SUFFIXES, read_samples

    seen: set[str] = set()
    for index, sample in enumerate(read_samples(tar)):
        folder, refused = task.scratch / f"{index:06d}", None
        if why := why_unsafe(sample.key):
            refused = Reject(key=printable(sample.key), reason="unsafe_key", message=why)
        elif sample.key in seen:
            refused = Reject(
                key=sample.key, reason="duplicate_key", message="expected each key once, found one that came before"
            )
        elif not sample.name:
            expected = ", ".join(f".{suffix}" for suffix in VIDEO_SUFFIXES)
            refused = Reject(key=sample.key, reason="no_video", message=f"expected one of {expected}, found none")
        else:
            folder.mkdir()
            (folder / "video").write_bytes(sample.video)
        seen.add(sample.key)
        yield _Case(sample.key, printable(sample.name), sample.info, folder, refused)


def _cut(recipe: SplitRecipe, case: _Case, stop: threading.Event) -> CutVideo | Reject:
    from shardmill.adapters.video import VideoError, cut_video

    if case.refused is not None:
        return case.refused
    source, folder = case.folder / "video", case.folder / "clips"
    folder.mkdir()
    try:
        return cut_video(source, recipe, name=case.name, folder=folder, stop=stop)
    except VideoError as error:
        return Reject(key=case.key, reason=error.reason, message=printable(error.message), detail=error.detail)
    finally:
        source.unlink()


class _Publication:
    """The parts of a shard, written and published one after the other, and what is said of them."""

    def __init__(self, task: _Task) -> None:
        self.videos: list[Video] = []
        self.rejects: list[Reject] = []
        self._task = task
        self._parts: list[Part] = []
        self._file: PartFile | None = None

    def add(self, case: _Case, result: CutVideo | Reject) -> str:
        """Take in what became of a sample, and say it in a line."""
        if isinstance(result, Reject):
            self.rejects.append(result)
            return f"{result.key}: refused: {result.reason}: {result.message}"
        info, bare = _read_info(case.info), json.dumps(result.facts, sort_keys=True, ensure_ascii=False).encode()
        self._write(case, result, bare, case.info if info else _NO_INFO)
        video = Video(
            key=case.key,
            clips=len(result.clips),
            frames=result.frames,
            seconds=result.seconds,
            labels=labels_of(info),
        )
        self.videos.append(video)
        return f"{video.key}: {video.clips} clips, {video.frames} frames, {video.seconds:.3f} s"

    def _write(self, case: _Case, cut: CutVideo, facts: bytes, info: bytes) -> None:
        from shardmill.adapters.tar import Clip, PartFile

        if self._file is not None and self._file.is_full:
            self._publish(self._file)
            self._file = None
        if self._file is None:
            self._file = PartFile(self._task.scratch / f"part-{len(self._parts):06d}.tar")
        for number, path in cut.clips:
            self._file.write(case.key, Clip(number, path.read_bytes(), facts, info))

    def _publish(self, file: PartFile) -> None:
        file.close()
        raw, task = self._task.raw.manifest, self._task
        folder = layout.stage_folder("clips", raw.dataset, task.recipe.hash)
        part = commits.put_part(
            task.lake,
            file.path,
            folder=layout.part_folder(folder, raw.shard, task.revision),
            stem=f"{raw.dataset}-clips-{raw.shard:06d}-{len(self._parts):06d}",
            suffix=".tar",
            samples=file.clips,
        )
        self._parts.append(part)
        file.path.unlink()

    def close(self) -> list[Part]:
        """Publish the last part. Returns all."""
        if self._file is not None:
            self._publish(self._file)
            self._file = None
        return self._parts


def _read_info(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
