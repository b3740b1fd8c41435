"""TFRecord files as a run lists them, and what a look at one found."""

from __future__ import annotations

from typing import Literal

from shardmill.specs.record_rejects import RecordReject
from shardmill.specs.value import Sealed, Spec, short_hash

Level = Literal["frame", "video"]
Subset = Literal["train", "validation"]
SUBSETS: tuple[Subset, ...] = ("train", "validation")
LOOK_VERSION = 1
"""Raised by hand when a look finds something else in the same file."""
SHOWN_REJECTS = 20
"""Rejected records of a file that are kept one by one; the rest is counted."""


class PlannedFile(Spec):
    """A TFRecord file as the plan found it."""

    subset: Subset
    uri: str
    """Where it lies: s3://, gs://, file://, or http:// or https:// of a mirror."""
    size: int | None = None
    """Bytes; None where a mirror was not asked."""
    version: str = ""
    """ETag of a file in a folder."""
    md5: str = ""
    """Of a published file, from its list."""

    @property
    def name(self) -> str:
        return self.uri.rpartition("/")[2]

    def look_name(self, *, copies: bool) -> str:
        """Name what a look at this version of the file found, in place or in the lake's copy."""
        named = {"uri": self.uri, "version": self.version, "md5": self.md5, "copies": copies, "look": LOOK_VERSION}
        return f"{short_hash(named)}.json"


class RecordPlan(Sealed):
    """The frozen listing of a run's files, stored as ``runs/<run>/files.json``."""

    files: tuple[PlannedFile, ...]
    notes: tuple[str, ...] = ()
    """What was found, for people."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """The files' numbers."""
        return tuple(range(len(self.files)))

    @property
    def bytes(self) -> tuple[int, bool]:
        """Bytes of all files, and whether that is known of each; what is not is as large as the others' mean."""
        known = [file.size for file in self.files if file.size is not None]
        mean = sum(known) / len(known) if known else 0.0
        return round(mean * len(self.files)), len(known) == len(self.files)


class RecordFile(Sealed):
    """What a look at a TFRecord file found; kept in the lake, so that a file is read once for it."""

    source: PlannedFile
    uri: str
    """Where it is read."""
    size: int
    file_sha256: str
    level: Level = "frame"
    records: int = 0
    """Entries of the file, those that were rejected among them."""
    labelled: int = 0
    """Records with at least one label."""
    max_frames: int = 0
    """Frames of the longest record; 1 where records are at the level of videos."""
    highest_label: int = -1
    rejected: int = 0
    """Records that cannot be used."""
    rejects: tuple[RecordReject, ...] = ()
    """The first of them."""
    broken: RecordReject | None = None
    """Why the whole file cannot be used."""


class FoundRecords(Sealed):
    """What became of a run's files, stored as ``runs/<run>/found.json``."""

    files: int
    """Files that were looked at."""
    bytes: int
    """Of those that are used."""
    records: int
    rejected_records: int
    broken: tuple[RecordReject, ...]
    """Files that cannot be used."""
    rejects: tuple[RecordReject, ...]
    """Records that cannot be used, the first of each file."""
