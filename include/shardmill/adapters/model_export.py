"""A trained model for other programs: a `.keras` file, a TensorFlow SavedModel, the labels. We read none of it."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import keras

from shardmill.adapters.store import Store
from shardmill.specs.records import Export
from shardmill.specs.value import canonical_json

Kind = Literal["keras", "saved_model", "vocabulary"]
_NAMES: dict[Kind, tuple[str, str]] = {
    "keras": ("model", ".keras"),
    "saved_model": ("saved_model", ".tar"),
    "vocabulary": ("vocabulary", ".json"),
}


def export_model(store: Store, model: keras.Model, vocabulary: Sequence[str]) -> tuple[Export, ...]:
    """Publish a model under content-addressed names in ``model/``; the model's manifest is to list what is returned.

    Args:
        store: the run's folder.
        model: with its final weights.
        vocabulary: the labels, in the order of the model's scores.

    Raises:
        Exception: what Keras raises where the model cannot be written, e.g. for a layer that has no ``get_config``.
    """
    if model.output_shape[-1] != len(vocabulary):
        raise ValueError(f"expected a label for each of {model.output_shape[-1]} scores, found {len(vocabulary)}")
    labels = canonical_json(list(vocabulary))
    with store.scratch("export-") as folder:
        write: dict[Kind, Callable[[Path], object]] = {
            "keras": model.save,
            "saved_model": lambda path: _save_tar(model, folder / "saved_model", path),
            "vocabulary": lambda path: path.write_bytes(labels),
        }
        return tuple(_publish(store, kind, folder, write[kind]) for kind in _NAMES)


def _publish(store: Store, kind: Kind, folder: Path, write: Callable[[Path], object]) -> Export:
    stem, suffix = _NAMES[kind]
    path = folder / f"{stem}{suffix}"
    try:
        write(path)
    except Exception as error:
        error.add_note(f"the trained model cannot be exported (as {kind}): a layer or an operation of it is at fault")
        raise
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    size = path.stat().st_size
    key = f"model/{stem}-{sha256[:12]}{suffix}"
    store.put_new(key, path)
    return Export(kind=kind, key=key, sha256=sha256, size=size)


def _save_tar(model: keras.Model, folder: Path, path: Path) -> None:
    """Pack a SavedModel whose signature `serve` takes what the model takes; names in order, no times, no owners."""
    model.export(folder, format="tf_saved_model", verbose=False)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for member in sorted(folder.rglob("*")):
            archive.add(member, f"saved_model/{member.relative_to(folder)}", recursive=False, filter=_bare)


def _bare(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime, member.uid, member.gid, member.uname, member.gname = 0, 0, 0, "", ""
    member.mode = 0o755 if member.isdir() else 0o644
    return member
