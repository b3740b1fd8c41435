"""Models in the lake: weights under a content-addressed name first, the manifest last."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shardmill.adapters.store import DamagedObjectError, MissingObjectError, Store, read_sealed
from shardmill.core.ablations import TrainingMeans
from shardmill.specs.records import ModelManifest

MANIFEST_KEY = "model/model.json"

Arrays = Mapping[str, npt.NDArray[np.generic]]


class OtherModelError(RuntimeError):
    """The run's folder holds a model that was trained with other inputs."""


def find_model(store: Store, inputs: str) -> ModelManifest | None:
    """Read the run's model; None where there is none. Raises OtherModelError where it has other inputs."""
    try:
        manifest = read_sealed(store, MANIFEST_KEY, ModelManifest)
    except MissingObjectError:
        return None
    if manifest.inputs != inputs:
        raise OtherModelError(
            f"{store.uri_of(MANIFEST_KEY)} was trained with other inputs: expected {inputs}, found {manifest.inputs}. "
            "The records or the settings changed since: start a run with a new name"
        )
    return manifest


def pack_arrays(arrays: Arrays) -> bytes:
    """Write arrays as .npz; equal arrays give equal bytes."""
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise ValueError(f"expected {name} as plain numbers, found {array.dtype}")
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def put_weights(store: Store, arrays: Arrays) -> tuple[str, str]:
    """Publish arrays under ``model/weights-<sha12>.npz``. Returns the key and the SHA-256."""
    content = pack_arrays(arrays)
    sha256 = hashlib.sha256(content).hexdigest()
    key = f"model/weights-{sha256[:12]}.npz"
    store.put_new(key, content)
    return key, sha256


def load_weights(store: Store, manifest: ModelManifest) -> dict[str, npt.NDArray[np.generic]]:
    """Read a model's arrays, their hash checked, nothing unpickled."""
    content = store.get(manifest.weights)
    found = hashlib.sha256(content).hexdigest()
    if found != manifest.weights_sha256:
        raise DamagedObjectError(
            f"{store.uri_of(manifest.weights)} is damaged: expected SHA-256 {manifest.weights_sha256}, found {found}"
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


@dataclass(frozen=True, eq=False)
class Trained:
    """The arrays of a model, each for its use."""

    weights: dict[str, npt.NDArray[np.float32]]
    """By name, in the model's order."""
    means: TrainingMeans | None
    """None where they were not published."""


def load_trained(store: Store, manifest: ModelManifest) -> Trained:
    """Read a model's weights and the means of what it was trained on. Raises DamagedObjectError."""
    arrays = load_weights(store, manifest)
    rgb, audio = (_plain(arrays.pop(name, None)) for name in ("mean.rgb", "mean.audio"))
    weights = {name: array.astype(np.float32, copy=False) for name, array in arrays.items()}
    return Trained(weights, None if rgb is None or audio is None else TrainingMeans(rgb, audio))


def _plain(mean: npt.NDArray[np.generic] | None) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32] | None:
    """Give a mean as the model takes features: bytes of frames, or float32 of videos."""
    if mean is None or mean.dtype == np.uint8:
        return mean  # type: ignore[return-value]
    return mean.astype(np.float32, copy=False)


def publish_model(store: Store, manifest: ModelManifest) -> ModelManifest:
    """Commit the model's manifest, create-only.

    Where another try of the same run was first, its model is the truth and is returned.
    """
    if store.put_new(MANIFEST_KEY, manifest.to_json()):
        return manifest
    first = find_model(store, manifest.inputs)
    if first is None:
        raise MissingObjectError(f"{store.uri_of(MANIFEST_KEY)} was there a moment ago and is gone: train again")
    return first
