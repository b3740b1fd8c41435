"""Checkpoints in a run's folder: whole or not at all, the last two of them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from shardmill.adapters.store import DamagedObjectError, MissingObjectError, Store, read_sealed
from shardmill.specs.checkpoint import ArrayFile, Checkpoint

FOLDER = "checkpoints"
KEPT = 2
"""The last one may turn out to be damaged."""
Arrays = Mapping[str, npt.NDArray[Any]]


class OtherTrainingError(RuntimeError):
    """The run's folder holds checkpoints of a training with other inputs."""


class Checkpoints:
    """The checkpoints of one training.

    Arrays are put under names made of their content, then the sealed JSON that lists them; so a writer that dies leaves
    nothing that anybody would read. Names sort by how far the training was. Two writers, of whom one does not know yet
    that it was given up, write what is both true; the farther one counts.
    """

    def __init__(self, store: Store, inputs: str) -> None:
        """Open the checkpoints in the run's folder ``store`` of the training with these ``inputs``."""
        self._store, self._inputs = store, inputs

    def put_arrays(self, arrays: Arrays) -> ArrayFile:
        """Put arrays of plain numbers, as .npz."""
        buffer = io.BytesIO()
        np.savez(buffer, **{name: _plain(name, array) for name, array in arrays.items()})
        sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
        found = ArrayFile(key=f"{FOLDER}/arrays-{sha256[:12]}.npz", sha256=sha256)
        self._store.put_new(found.key, buffer.getvalue())
        return found

    def arrays(self, file: ArrayFile) -> dict[str, npt.NDArray[Any]]:
        """Read arrays, their hash checked, nothing unpickled. Raises DamagedObjectError, MissingObjectError."""
        content = self._store.get(file.key)
        found = hashlib.sha256(content).hexdigest()
        if found != file.sha256:
            where = self._store.uri_of(file.key)
            raise DamagedObjectError(f"{where} is damaged: expected SHA-256 {file.sha256}, found {found}")
        with np.load(io.BytesIO(content), allow_pickle=False) as opened:
            return {name: opened[name] for name in opened.files}

    def put(self, checkpoint: Checkpoint) -> None:
        """Commit a checkpoint whose arrays are there, and remove all but the last two."""
        content = checkpoint.to_json()
        sha12 = hashlib.sha256(content).hexdigest()[:12]
        self._store.put_new(f"{FOLDER}/{checkpoint.epoch:05d}-{checkpoint.examples:015d}-{sha12}.json", content)
        self._remove_old()

    def latest(self, say: Callable[[str], None]) -> Checkpoint | None:
        """Give the farthest checkpoint that is whole; None where there is none. Call it while nobody writes.

        Those that are not whole are removed: kept, they would stand for the last two, and newer ones would go.

        Args:
            say: takes a line about one that is not whole.

        Raises:
            OtherTrainingError: it is of a training with other inputs.
        """
        for key in reversed(self._keys()):
            try:
                found = read_sealed(self._store, key, Checkpoint)
                if found.inputs != self._inputs:
                    raise OtherTrainingError(
                        f"{self._store.uri_of(key)} is of a training with other inputs: expected {self._inputs}, found "
                        f"{found.inputs}. The records or the settings changed since: start a run with a new name"
                    )
                for file in found.arrays:
                    self.arrays(file)
            except (DamagedObjectError, MissingObjectError) as error:
                say(f"a checkpoint cannot be used: {error}")
                self._store.delete([key])
            else:
                return found
        return None

    def remove_orphans(self) -> None:
        """Remove arrays that no checkpoint lists: their writer died. Call it while nobody writes."""
        kept = {file.key for key in self._keys() for file in self._listed(key)}
        found = {info.key for info in self._store.list(FOLDER) if info.key.endswith(".npz")}
        self._store.delete(sorted(found - kept))

    def _keys(self) -> list[str]:
        return [info.key for info in self._store.list(FOLDER) if info.key.endswith(".json")]

    def _remove_old(self) -> None:
        keys = self._keys()
        old, kept = keys[:-KEPT], keys[-KEPT:]
        listed = {file.key for key in old for file in self._listed(key)}
        still = {file.key for key in kept for file in self._listed(key)}
        self._store.delete(old)
        self._store.delete(sorted(listed - still))

    def _listed(self, key: str) -> tuple[ArrayFile, ...]:
        try:
            return read_sealed(self._store, key, Checkpoint).arrays
        except (DamagedObjectError, MissingObjectError):
            return ()  # who resumes says so; here its arrays are left


def _plain(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.dtype.hasobject:
        raise ValueError(f"expected {name} as plain numbers, found {array.dtype}")
    return array
