"""Fetch TFRecord files into the lake: published ones from a mirror, or those of a folder, each checked and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from shardmill.adapters.file_work import Pace, Say, Telling, each_file
from shardmill.adapters.mirror import Mirror, Patience
from shardmill.adapters.record_look import find_look, keep_look, look_at
from shardmill.adapters.source import SourceReader
from shardmill.adapters.store import ChangedObjectError, Store, StoreError, StoreSettings
from shardmill.core.planning import BadRequestError
from shardmill.specs.manifest import SourceObject
from shardmill.specs.record_files import PlannedFile, RecordFile
from shardmill.specs.train_on_records import TrainOnRecordsSpec

HOPELESS = (BadRequestError, ChangedObjectError)
CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Fetching:
    """How files are fetched."""

    settings: StoreSettings | None = None
    """How the folder of the source is reached, where they come from one."""
    patience: Patience = field(default_factory=Patience)
    show: Say = lambda line: None


def fetch_files(
    lake: Store, asked: TrainOnRecordsSpec, files: Sequence[PlannedFile], say: Say, how: Fetching
) -> list[RecordFile]:
    """Bring files into the lake, each whole or not at all; one that is there with the right bytes is not fetched again.

    A file is written beside its place, its MD5 compared with that of the published list (or its version with that
    of the plan), its records counted, and only then does it get its name, which holds its hash.

    Raises:
        MirrorRefusedError, ChangedObjectError: another try will not change it.
        MirrorError, StoreError: another try may.
    """
    known = [file.size for file in files if file.size is not None]
    pace = Pace(len(files), sum(known) * len(files) // len(known) if known else None)
    telling = Telling(say, how.show, HOPELESS)
    with Mirror(how.patience, pace.pause) as mirror, lake.scratch("fetch-") as scratch:
        fetcher = _Fetcher(lake, asked, scratch, pace, how)

        def fetch(file: PlannedFile) -> RecordFile:
            return fetcher.fetch(file, mirror, say)

        return each_file(files, fetch, asked.fetch_at_once, pace, telling)


@dataclass(frozen=True)
class _Fetcher:
    lake: Store
    asked: TrainOnRecordsSpec
    scratch: Path
    pace: Pace
    how: Fetching

    def fetch(self, file: PlannedFile, mirror: Mirror, say: Say) -> RecordFile:
        found = find_look(self.lake, self.asked.dataset, file, copies=True)
        if found is not None:
            state = f"refused before, {found.broken.reason}" if found.broken else f"present ({_told(found)})"
            say(f"{file.name}: nothing to do, {state}")
            self.pace.take(found.size)
            return found
        path = self.scratch / file.look_name(copies=True)
        try:
            self._bring(file, path, mirror)
            look = self._commit(file, path)
        finally:
            path.unlink(missing_ok=True)
        say(f"{file.name}: {f'REFUSED, {look.broken.reason}' if look.broken else f'fetched ({_told(look)})'}")
        return look

    def _bring(self, file: PlannedFile, path: Path, mirror: Mirror) -> None:
        if self.asked.origin == "mirror":
            mirror.fetch(file.uri, file.md5, path, self.pace.take)
            return
        source = SourceObject(uri=file.uri, size=file.size or 0, version=file.version)
        with path.open("wb") as target:
            for chunk in self.pace.counted(SourceReader(source, self.how.settings).stream()):
                target.write(chunk)

    def _commit(self, file: PlannedFile, path: Path) -> RecordFile:
        with path.open("rb") as content:
            look = look_at(_chunks(content), file)
        if look.broken is None:
            key = copy_key(self.asked, look)
            self.lake.put_new(key, path)
            if (stored := self.lake.head(key)) is None or stored.size != look.size:
                raise StoreError(f"{self.lake.uri_of(key)} is not what was just written: try again")
            look = look.model_copy(update={"uri": self.lake.uri_of(key)})
        keep_look(self.lake, self.asked.dataset, look, copies=True)
        return look


def copy_key(asked: TrainOnRecordsSpec, look: RecordFile) -> str:
    """Give the key of a file's copy in the lake: by partition or subset, its name, and the hash of its bytes."""
    stem, dot, suffix = look.source.name.partition(".")
    place = look.source.subset
    if asked.origin == "mirror":
        place_of: dict[str, str] = {"train": asked.train_partition, "validation": asked.validation_partition}
        return f"records/{asked.dataset}/{place_of[place]}/{stem}-{look.file_sha256[:12]}{dot}{suffix}"
    return f"records/{asked.dataset}/{place}/{stem}-{look.file_sha256[:12]}{dot}{suffix}"


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    read: Callable[[], bytes] = lambda: file.read(CHUNK_BYTES)  # noqa: E731
    yield from iter(read, b"")


def _told(look: RecordFile) -> str:
    bad = f", {look.rejected} of them cannot be used" if look.rejected else ""
    return f"{look.records} records{bad}, {look.size / 1e6:.1f} MB"
