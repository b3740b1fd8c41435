"""Footage in a file, on its way out of a sandbox."""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from pathlib import Path

import numpy as np

from shardmill.core.footage import Footage

_FIELDS = {"frames", "samples", "lengths", "seconds"}
_MOST_BYTES = 4 * 1024**3


class FootageError(RuntimeError):
    """The file does not hold footage."""


def save_footage(path: Path, footage: Footage) -> None:
    """Write footage as an .npz of `frames`, `samples` (of all seconds, one behind the other), `lengths`, `seconds`."""
    np.savez(
        path,
        frames=footage.frames,
        samples=np.concatenate([*footage.sound, np.zeros(0, np.float32)]),
        lengths=np.array([len(samples) for samples in footage.sound], np.int64),
        seconds=np.float64(footage.seconds),
    )


def load_footage(path: Path) -> Footage:
    """Read footage. What decoded a stranger's video wrote the file: nothing in it is believed.

    Raises:
        FootageError: it is not what `save_footage` writes.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FootageError("expected a file, found something else")
            with zipfile.ZipFile(file) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
            if size > _MOST_BYTES:
                raise FootageError(f"expected at most {_MOST_BYTES} B, found {size}")
            file.seek(0)
            with np.load(file, allow_pickle=False) as found:
                fields = {name: found[name] for name in _FIELDS}
    except (OSError, ValueError, LookupError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise FootageError(f"expected footage, found a file that cannot be read: {error}") from error
    return _checked(fields["frames"], fields["samples"], fields["lengths"], fields["seconds"])


def _checked(frames: np.ndarray, samples: np.ndarray, lengths: np.ndarray, seconds: np.ndarray) -> Footage:
    found = [(array.dtype, array.ndim) for array in (frames, samples, lengths, seconds)]
    expected = [(np.uint8, 4), (np.float32, 1), (np.int64, 1), (np.float64, 0)]
    if found != expected or frames.shape[3] != 3 or len(frames) != len(lengths) or not len(frames):
        raise FootageError(f"expected frames, samples, lengths and seconds as {expected}, found {found}")
    if lengths.min() < 0 or lengths.sum() != len(samples):
        raise FootageError("expected the seconds' lengths to sum up to all samples, they do not")
    return Footage(frames, tuple(np.split(samples, np.cumsum(lengths)[:-1])), float(seconds))
