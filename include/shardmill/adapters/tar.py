"""Shards in tar, read and written by webdataset; ``tar_check`` comes first, for readers of tar are lenient."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webdataset import TarWriter
from webdataset.tariterators import tar_file_iterator

from shardmill.adapters.store import Store
from shardmill.core.tar_header import DamagedTarError
from shardmill.specs.manifest import Manifest, Part

VIDEO_SUFFIXES = ("mp4", "webm", "mkv", "mov", "avi")
INFO_SUFFIX = "info.json"
PART_BYTES = 256 * 1024 * 1024
PART_CLIPS = 10_000
_NAME = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)", re.DOTALL)


@dataclass(frozen=True)
class Sample:
    """The files of one key in a shard, as far as split needs them."""

    key: str
    name: str
    """Name of the video's member; empty where the sample has no video."""
    video: bytes
    info: bytes
    """The .info.json as it was found; empty where there is none."""


@dataclass(frozen=True)
class Clip:
    """A clip as it goes into a part."""

    number: int
    mp4: bytes
    source: bytes
    """JSON of the source's format and streams."""
    info: bytes
    """JSON that came with the source."""


@dataclass(frozen=True)
class VideoClips:
    """A video's clips as they are read back."""

    key: str
    clips: tuple[bytes, ...]
    """The mp4 files, ascending by number."""
    numbers: tuple[int, ...]
    info: dict[str, Any]
    """The source's .info.json."""


def split_name(name: str) -> tuple[str, str]:
    """Cut a member's name into key and suffix at the first dot of its base name, as webdataset does.

    A name without a key or without a suffix is all key.
    """
    plain = name.removeprefix("./")
    match = _NAME.fullmatch(plain)
    return (match[1], match[2].lower()) if match else (plain, "")


def read_samples(path: Path) -> Iterator[Sample]:
    """Yield the samples of a checked tar in order: neighbouring files of one key, each suffix once."""
    with path.open("rb") as file:
        key, files, names = "", dict[str, bytes](), dict[str, str]()
        for member in _members(file, path.name):
            name = member["fname"]
            found, suffix = split_name(name)
            if files and (found != key or suffix in files):
                yield _sample(key, files, names)
                files, names = {}, {}
            key, files[suffix], names[suffix] = found, member["data"], name
        if files:
            yield _sample(key, files, names)


def _members(file: Any, name: str) -> Iterator[dict[str, Any]]:
    try:
        yield from tar_file_iterator(file, skip_meta=None)
    except tarfile.TarError as error:
        raise DamagedTarError(f"{name} is damaged: {error}") from error


def _sample(key: str, files: dict[str, bytes], names: dict[str, str]) -> Sample:
    suffix = next((suffix for suffix in VIDEO_SUFFIXES if suffix in files), "")
    return Sample(key, names[suffix] if suffix else "", files[suffix] if suffix else b"", files.get(INFO_SUFFIX, b""))


class PartFile:
    """A part being written; the same clips give the same bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clips = 0
        self._file = path.open("wb")
        self._tar = TarWriter(
            self._file, user="", group="", mode=0o644, mtime=0, format="PAX_FORMAT", encoder=False, compress=False
        )

    def write(self, key: str, clip: Clip) -> None:
        """Append a clip of the video ``key``."""
        member = {"__key__": f"{key}/{clip.number:06d}", "mp4": clip.mp4}
        self._tar.write({**member, "mp4.json": clip.source, INFO_SUFFIX: clip.info})
        self.clips += 1

    @property
    def is_full(self) -> bool:
        """Whether the next video belongs into another part: a video's clips stay together."""
        return self.clips >= PART_CLIPS or self._file.tell() >= PART_BYTES

    def close(self) -> None:
        self._tar.close()
        self._file.close()


class _ChunkReader(io.RawIOBase):
    """A file over chunks, that hashes what goes by."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._rest = iter(chunks), b""
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self.digest.update(chunk)
            self._rest = chunk
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def read_clips(store: Store, manifest: Manifest) -> Iterator[VideoClips]:
    """Yield the videos of a clips manifest with their clips, in order, one video in memory at a time.

    Raises:
        DamagedTarError: where a part is not what the manifest says.
    """
    for part in manifest.parts:
        yield from _read_part(store, part)


def _read_part(store: Store, part: Part) -> Iterator[VideoClips]:
    reader = _ChunkReader(store.stream(part.name))
    file = io.BufferedReader(reader, 1024 * 1024)
    key, clips, count = "", dict[int, bytes](), 0
    info: dict[str, Any] = {}
    for member in _members(file, store.uri_of(part.name)):
        path, suffix = split_name(member["fname"])
        found, _, number = path.rpartition("/")
        if found != key and clips:
            yield VideoClips(key, tuple(clips.values()), tuple(clips), info)
            clips, info = {}, {}
        key = found
        if suffix == "mp4":
            clips[int(number)] = member["data"]
            count += 1
        elif suffix == INFO_SUFFIX and not info:
            info = json.loads(member["data"])
    while file.read(1024 * 1024):
        pass  # tarfile stops at the first zero block; the hash is over the whole file
    if reader.digest.hexdigest() != part.sha256 or count != part.samples:
        raise DamagedTarError(
            f"{store.uri_of(part.name)}: expected {part.samples} clips and SHA-256 {part.sha256[:12]}…, "
            f"found {count} and {reader.digest.hexdigest()[:12]}…"
        )
    if clips:
        yield VideoClips(key, tuple(clips.values()), tuple(clips), info)
