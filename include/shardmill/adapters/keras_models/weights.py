"""Weights of a Keras model: by name, as they are published, and as one flat buffer, as they are trained."""

from __future__ import annotations

import keras
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def weight_names(model: keras.Model) -> list[str]:
    """Name the weights by position and layer; Keras' own names depend on what else a process built."""
    owners = {id(weight): layer.name for layer in model.layers for weight in layer.weights}
    return [f"{index:02d}.{owners[id(weight)]}" for index, weight in enumerate(model.weights)]


def named_weights(model: keras.Model) -> dict[str, Floats]:
    """Give the model's weights by name."""
    return dict(zip(weight_names(model), model.get_weights(), strict=True))


def set_named_weights(model: keras.Model, arrays: dict[str, Floats]) -> None:
    """Set the model's weights from arrays that bear the model's names. Raises ValueError where they do not fit."""
    expected = {name: tuple(weight.shape) for name, weight in zip(weight_names(model), model.weights, strict=True)}
    found = {name: array.shape for name, array in arrays.items()}
    if expected != found:
        raise ValueError(f"the weights do not fit this model: expected {expected}, found {found}")
    model.set_weights([arrays[name] for name in expected])


def flat_weights(model: keras.Model) -> Floats:
    """Give the trainable weights as float32 [size], in the model's order."""
    parts = [np.asarray(weight, np.float32).ravel() for weight in model.trainable_variables]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def set_flat_weights(model: keras.Model, flat: Floats) -> None:
    """Set the trainable weights from float32 [size]."""
    sizes = [int(np.prod(weight.shape)) for weight in model.trainable_variables]
    if flat.shape != (sum(sizes),):
        raise ValueError(f"expected {sum(sizes)} trainable weights, found {flat.shape}: they are of another model")
    ends = np.cumsum(sizes)
    for weight, end, size in zip(model.trainable_variables, ends, sizes, strict=True):
        weight.assign(flat[end - size : end].reshape(weight.shape))
