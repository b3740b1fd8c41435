"""The samples of a shard as they stream by, and which of them are refused unseen."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from shardmill.adapters.tar import INFO_SUFFIX, VIDEO_SUFFIXES, split_name
from shardmill.adapters.tar_stream import Member, TarStream
from shardmill.core.video_keys import printable, why_unsafe
from shardmill.specs.manifest import Reject

MOST_INFO_BYTES = 4 * 1024 * 1024
"""A longer .info.json counts as broken."""


class OtherSourceError(RuntimeError):
    """The bytes before a sample are not those that an earlier try read there."""


@dataclass(frozen=True)
class Position:
    """A position in the shard, and what lies before it."""

    offset: int = 0
    """Bytes before it."""
    sha256: str = ""
    """Of those bytes."""


@dataclass(frozen=True)
class Case:
    """A sample. Its video, if it is not refused, lies in scratch under a number."""

    index: int
    """Number of the sample in the shard."""
    key: str
    name: str
    """What the video is called in the shard."""
    begins: Position
    info: bytes
    video: Path | None = None
    size: int = 0
    """Bytes that it takes in scratch."""
    refused: Reject | None = None


@dataclass(frozen=True)
class Wanted:
    """Which samples of a shard are to be cut."""

    first: int = 0
    """Those before were dealt with by an earlier try."""
    begins: Position | None = None
    """Where that try found the first; None where there was none."""
    keys: Container[str] | None = None
    """Only those; None for all."""


class Room(Protocol):
    """Room in scratch, which is not endless."""

    def reserve(self, size: int) -> None:
        """Wait until so many bytes may be written."""

    def release(self, size: int) -> None:
        """Give so many bytes back."""


@dataclass
class _Sample:
    index: int
    key: str
    begins: Position
    wanted: bool
    refused: Reject | None
    suffixes: set[str] = field(default_factory=set)
    name: str = ""
    instead: str = ""  # what stands in the place of the video's file
    best: int = len(VIDEO_SUFFIXES)
    size: int = 0
    info: bytes = b""


class Samples:
    """The samples of a tar: neighbouring files of one key, each suffix once; counted while they go by."""

    def __init__(self, tar: TarStream, scratch: Path, wanted: Wanted, room: Room) -> None:
        """Begin.

        Args:
            room: what may be written to scratch.
        """
        self._tar, self._scratch, self._wanted, self._room = tar, scratch, wanted, room
        self._seen: set[str] = set()
        self.count = 0
        """Samples seen so far, wanted or not."""

    @property
    def here(self) -> Position:
        """Where the newest member begins; the end behind the last."""
        return Position(self._tar.starts, self._tar.sha256)

    def cases(self) -> Iterator[Case]:
        """Yield the wanted samples in order.

        Raises:
            OtherSourceError: an earlier try read other bytes before the first of them.
            DamagedTarError: the tar is not whole.
        """
        sample: _Sample | None = None
        for member in self._tar.members():
            key, suffix = split_name(member.name)
            if sample is None or key != sample.key or suffix in sample.suffixes:
                if sample is not None and sample.wanted:
                    yield self._case(sample)
                sample = self._begin(key)
            sample.suffixes.add(suffix)
            self._take(sample, member, suffix)
        if sample is not None and sample.wanted:
            yield self._case(sample)
        if self.count <= self._wanted.first:
            self._compare()

    def _begin(self, key: str) -> _Sample:
        if self.count == self._wanted.first:
            self._compare()
        index, first_of_its_key = self.count, key not in self._seen
        self.count += 1
        self._seen.add(key)
        keys = self._wanted.keys
        wanted = index >= self._wanted.first and (keys is None or (first_of_its_key and key in keys))
        return _Sample(index, key, self.here, wanted, _refusal(key, first_of_its_key))

    def _compare(self) -> None:
        expected = self._wanted.begins
        if expected is not None and self.here != expected:
            raise OtherSourceError(f"expected {expected} before sample {self._wanted.first}, found {self.here}")

    def _take(self, sample: _Sample, member: Member, suffix: str) -> None:
        if not sample.wanted or sample.refused is not None:
            return
        if suffix == INFO_SUFFIX and member.size <= MOST_INFO_BYTES:
            sample.info = b"".join(self._tar.content())
        elif suffix in VIDEO_SUFFIXES and member.what:
            sample.instead = sample.instead or member.what
        elif suffix in VIDEO_SUFFIXES and VIDEO_SUFFIXES.index(suffix) < sample.best:
            self._room.release(sample.size)  # of a video of a suffix that comes after this one
            self._room.reserve(member.size)
            sample.best, sample.name, sample.size = VIDEO_SUFFIXES.index(suffix), member.name, member.size
            with self._path(sample).open("wb") as file:
                for piece in self._tar.content():
                    file.write(piece)

    def _path(self, sample: _Sample) -> Path:
        return self._scratch / f"{sample.index:06d}.video"

    def _case(self, sample: _Sample) -> Case:
        refused = sample.refused
        if refused is None and not sample.name:
            expected = ", ".join(f".{suffix}" for suffix in VIDEO_SUFFIXES)
            message = f"expected a file of one of {expected}, found {sample.instead or 'none'}"
            refused = Reject(key=sample.key, reason="no_video", message=message)
        video = self._path(sample) if refused is None else None
        name = printable(sample.name)
        return Case(sample.index, sample.key, name, sample.begins, sample.info, video, sample.size, refused)


def _refusal(key: str, first_of_its_key: bool) -> Reject | None:
    if why := why_unsafe(key):
        return Reject(key=printable(key), reason="unsafe_key", message=why)
    if not first_of_its_key:
        message = "expected each key once, found one that came before"
        return Reject(key=key, reason="duplicate_key", message=message)
    return None
