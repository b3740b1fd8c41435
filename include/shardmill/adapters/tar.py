"""Parts in tar, read and written by webdataset."""

from __future__ import annotations

import json
import re
import tarfile
import tempfile
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardmill.adapters.store import DamagedObjectError, Store, fetch_checked
from shardmill.core.tar_header import DamagedTarError
from shardmill.specs.manifest import Manifest, Part

VIDEO_SUFFIXES = ("mp4", "webm", "mkv", "mov", "avi")
INFO_SUFFIX = "info.json"
_NAME = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)", re.DOTALL)


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


def _members(file: Any, name: str) -> Iterator[dict[str, Any]]:
    from webdataset.tariterators import tar_file_iterator  # see below

    try:
        yield from tar_file_iterator(file, skip_meta=None)
    except tarfile.TarError as error:
        raise DamagedTarError(f"{name} is damaged: {error}") from error


@dataclass(frozen=True)
class Place:
    """Where a clip's mp4 lies in a part."""

    offset: int
    """Bytes before it."""
    size: int
    """Bytes."""


class PartFile:
    """A part being written; the same clips give the same bytes."""

    def __init__(self, path: Path, *, max_bytes: int, max_clips: int) -> None:
        from webdataset import TarWriter  # takes a while, in which videos may be cut already

        self.path = path
        self.max_bytes = max_bytes
        self.clips = 0
        self._max_clips = max_clips
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
        return self.clips >= self._max_clips or self.size >= self.max_bytes

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def close(self) -> Mapping[str, tuple[Place, ...]]:
        """Finish the file. Returns the places of each video's clips, ascending by number."""
        self._tar.close()
        self._file.close()
        places: dict[str, tuple[Place, ...]] = {}
        with tarfile.open(self.path, "r:") as tar:
            for member in tar:
                key, suffix = split_name(member.name)
                if suffix == "mp4":
                    video = key.rpartition("/")[0]
                    places[video] = (*places.get(video, ()), Place(member.offset_data, member.size))
        return places


def read_clips(store: Store, manifest: Manifest, parts: Container[int] | None = None) -> Iterator[VideoClips]:
    """Yield the videos of a clips manifest with their clips, in order, one video in memory at a time.

    Each part is brought here and checked before any of it is given out.

    Args:
        parts: which of the manifest's parts are read; None for all.

    Raises:
        DamagedObjectError: where a part is not what the manifest says.
    """
    with store.scratch("clips-", place=Path(tempfile.gettempdir())) as folder:
        for number, part in enumerate(manifest.parts):
            if parts is not None and number not in parts:
                continue
            path = folder / "part.tar"
            with path.open("wb") as file:
                fetch_checked(store, part.name, part.sha256, file)
            yield from _read_part(path, part, store.uri_of(part.name))


def _read_part(path: Path, part: Part, uri: str) -> Iterator[VideoClips]:
    key, clips, count = "", dict[int, bytes](), 0
    info: dict[str, Any] = {}
    with path.open("rb") as file:
        for member in _members(file, uri):
            name, suffix = split_name(member["fname"])
            found, _, number = name.rpartition("/")
            if found != key and clips:
                yield VideoClips(key, tuple(clips.values()), tuple(clips), info)
                clips, info = {}, {}
            key = found
            if suffix == "mp4":
                clips[int(number)] = member["data"]
                count += 1
            elif suffix == INFO_SUFFIX and not info:
                info = json.loads(member["data"])
    if count != part.samples:
        raise DamagedObjectError(f"{uri}: expected {part.samples} clips, found {count}")
    if clips:
        yield VideoClips(key, tuple(clips.values()), tuple(clips), info)
