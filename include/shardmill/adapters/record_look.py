"""Look at a TFRecord file in one pass: its hash, how many records of which level it holds, and what is wrong in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from shardmill.adapters.records import (
    Damage,
    Entry,
    Record,
    RecordError,
    VideoRecord,
    decode_record,
    decode_video_record,
    read_entries,
)
from shardmill.adapters.store import MissingObjectError, Store, read_sealed
from shardmill.specs.record_files import SHOWN_REJECTS, Level, PlannedFile, RecordFile
from shardmill.specs.record_rejects import RecordReject

MOST_FRAMES = 300


@dataclass
class _Tally:
    """What was found so far."""

    uri: str
    level: Level | None = None
    records: int = 0
    labelled: int = 0
    max_frames: int = 0
    highest_label: int = -1
    rejected: int = 0
    rejects: list[RecordReject] = field(default_factory=list)
    broken: RecordReject | None = None

    def take(self, found: Entry | Damage) -> None:
        if isinstance(found, Damage) and found.ends_file:
            self.broken = RecordReject(file=self.uri, offset=found.offset, reason=f"the file {found.reason}")
            return
        self.records += 1
        if isinstance(found, Damage):
            self._refuse(found.offset, found.reason)
            return
        try:
            self._count(_decode(found.payload, self.level), found.offset)
        except RecordError as error:
            self._refuse(found.offset, str(error))

    def _count(self, record: Record | VideoRecord, offset: int) -> None:
        level: Level = "frame" if isinstance(record, Record) else "video"
        frames = len(record.rgb) if isinstance(record, Record) else 1
        if not 1 <= frames <= MOST_FRAMES:
            raise RecordError(f"expected 1 to {MOST_FRAMES} frames, found {frames}")
        if any(label < 0 for label in record.labels):
            raise RecordError(f"expected labels from 0 on, found {min(record.labels)}")
        if self.level not in (None, level):
            reason = f"the file is at the level of {self.level}s up to here, and of {level}s from here on"
            self.broken = RecordReject(file=self.uri, offset=offset, reason=reason)
        self.level = level
        self.labelled += bool(record.labels)
        self.max_frames = max(self.max_frames, frames)
        self.highest_label = max((self.highest_label, *record.labels))

    def _refuse(self, offset: int, reason: str) -> None:
        self.rejected += 1
        if len(self.rejects) < SHOWN_REJECTS:
            self.rejects.append(RecordReject(file=self.uri, offset=offset, reason=reason))


def _decode(payload: bytes, level: Level | None) -> Record | VideoRecord:
    """Read a record of either level, that of the records before it first."""
    if level != "video":
        record = decode_record(payload)
        # An Example is a SequenceExample without feature lists: what has no frames may have their means.
        if len(record.rgb):
            return record
    try:
        return decode_video_record(payload)
    except RecordError as error:
        if level == "video" and len((record := decode_record(payload)).rgb):
            return record
        raise RecordError(f"neither frames nor means of frames are there: {error}") from error


def look_at(chunks: Iterable[bytes], source: PlannedFile) -> RecordFile:
    """Read a TFRecord file once; memory is bounded by its largest record.

    Args:
        chunks: the bytes of the file, in order.

    Returns:
        What was found. A file whose records cannot be told apart to its end is ``broken``; one that is whole but for
        some records is not.
    """
    hashed, tally = _Hashed(chunks), _Tally(source.uri)
    for found in read_entries(hashed.chunks()):
        tally.take(found)
        if tally.broken is not None:
            break
    if tally.broken is None and tally.records == tally.rejected:
        why = f"none of its {tally.records} records can be used" if tally.records else "the file is empty"
        tally.broken = RecordReject(file=source.uri, offset=0, reason=why)
    hashed.finish()
    return RecordFile(
        source=source,
        uri=source.uri,
        size=hashed.size,
        file_sha256=hashed.digest.hexdigest(),
        level=tally.level or "frame",
        records=tally.records,
        labelled=tally.labelled,
        max_frames=tally.max_frames,
        highest_label=tally.highest_label,
        rejected=tally.rejected,
        rejects=tuple(tally.rejects),
        broken=tally.broken,
    )


class _Hashed:
    """Chunks that are hashed and counted as they pass."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self.digest = hashlib.sha256()
        self.size = 0

    def chunks(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.digest.update(chunk)
            self.size += len(chunk)
            yield chunk

    def finish(self) -> None:
        """Hash what nobody read."""
        for _ in self.chunks():
            pass


def look_key(dataset: str, file: PlannedFile, *, copies: bool) -> str:
    """Give the key of what was found in a file, below the lake."""
    return f"{looks_folder(dataset)}/{file.look_name(copies=copies)}"


def looks_folder(dataset: str) -> str:
    """Give the folder of all that was found in files of a data set."""
    return f"records/{dataset}/_looks"


def find_look(lake: Store, dataset: str, file: PlannedFile, *, copies: bool) -> RecordFile | None:
    """Read what an earlier look found in this version of a file; None where none was kept, or its copy is gone."""
    try:
        found = read_sealed(lake, look_key(dataset, file, copies=copies), RecordFile)
    except MissingObjectError:
        return None
    if not copies or found.broken is not None:
        return found
    copy = lake.head(found.uri.removeprefix(f"{lake.uri}/"))
    return found if copy is not None and copy.size == found.size else None


def keep_look(lake: Store, dataset: str, look: RecordFile, *, copies: bool) -> None:
    """Keep what was found in a file; what another writer kept of the same version is the same.

    But for one whose copy is gone: the new copy may lie elsewhere, for the other subset, and takes its place.
    """
    key = look_key(dataset, look.source, copies=copies)
    if not lake.put_new(key, look.to_json()) and find_look(lake, dataset, look.source, copies=copies) is None:
        lake.put(key, look.to_json())
