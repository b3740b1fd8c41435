"""What comes out of the sandbox: nothing in it is trusted to be a plain file."""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from shardmill.adapters.video.error import SlotError
from shardmill.adapters.video.places import CLIPS, FOOTAGE, MOST_BYTES

_MOST_CLIP_BYTES = 1024**3


@dataclass(frozen=True)
class Pieces:
    """A video's clips as they came out of the sandbox: nothing in the folder is trusted to be a plain file."""

    folder: Path
    numbers: tuple[int, ...]
    """Of the clips, ascending."""
    frames: int
    """Frames of the source, which are those of its clips."""
    seconds: float
    """Length of the video stream."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Format and streams of the source, named as ffprobe names them."""
    copied: bool = False
    """Whether the pictures were taken over as they are."""
    size: int = 0
    """Bytes of the clips, and of the footage."""

    def read(self, number: int) -> bytes:
        """Read a clip. Raises SlotError where it is no plain file."""
        return _read_plain(self.folder / CLIPS / f"{number:06d}.mp4")

    @property
    def footage(self) -> Path:
        """An .npz of what `clip_reading` would read of the clips, where it was asked for."""
        return self.folder / FOOTAGE

    def without_footage(self) -> Pieces:
        """Remove the footage; something else of its name stays until all is removed."""
        try:
            size = self.footage.lstat().st_size
            self.footage.unlink()
        except OSError:
            return self
        return replace(self, size=self.size - size)

    def remove(self) -> None:
        """Remove the files."""
        shutil.rmtree(self.folder)


def _read_plain(path: Path) -> bytes:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SlotError(f"expected a file as the clip {path.name}, found something else")
            return file.read()
    except OSError as error:
        raise SlotError(f"expected a file as the clip {path.name}: {error.strerror}") from error


class NonsenseError(ValueError):
    """What the process in the sandbox left is not what it says."""


def size_of(folder: Path, clips: tuple[int, ...]) -> int:
    """Look at what a process left, and give the bytes of it that stay."""
    if list(clips) != sorted(set(clips)) or not clips:
        raise NonsenseError(f"expected the clips' numbers ascending, found {clips[:10]}")
    if not all(stat.S_ISDIR((folder / name).lstat().st_mode) for name in ("", CLIPS)):
        raise NonsenseError("expected the clips in a folder, found something else")
    total = 0
    for number in clips:
        found = (folder / CLIPS / f"{number:06d}.mp4").lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_CLIP_BYTES:
            raise NonsenseError(f"expected a file of at most {_MOST_CLIP_BYTES} B as clip {number}")
        total += found.st_size
    if total > MOST_BYTES:
        raise NonsenseError(f"expected at most {MOST_BYTES} B of clips, found {total}")
    footage = folder / FOOTAGE
    return total + (footage.lstat().st_size if os.path.lexists(footage) else 0)
