"""A user's own model, by the import path of the function that builds it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import keras

from shardmill.core.frames import FRAME_VALUES
from shardmill.specs.training import TrainSpec

Build = Callable[[int, TrainSpec], keras.Model]


class ModelError(ValueError):
    """The field ``model`` names no model that can be trained; says what was expected and found."""


def import_build(path: str) -> Build:
    """Import ``package.module:function``.

    The package must be installed where training runs: in the image, or shipped with the job's code.
    """
    module, _, function = path.partition(":")
    try:
        build = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"model: expected a function that can be imported as {path}, found {error}: install its package on the "
            "cluster's image or ship it with the job"
        ) from error
    if not callable(build):
        raise ModelError(f"model: expected a function at {path}, found {type(build).__name__}")
    return build


def check_model(model: object, path: str, labels: int) -> keras.Model:
    """Give the model back where frames or means can be fed to it and it scores each label; raise ModelError else."""
    if not isinstance(model, keras.Model):
        raise ModelError(f"model: expected that {path} gives a keras.Model, found {type(model).__name__}")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError(f"model: expected one input and one output of {path}, found {model.inputs}, {model.outputs}")
    given, taken = model.outputs[0], model.inputs[0]
    if tuple(given.shape) != (None, labels) or keras.backend.standardize_dtype(given.dtype) != "float32":
        raise ModelError(f"model: expected float32 [videos, {labels}] out of {path}, found {_told(given)}")
    inputs = {((None, None, FRAME_VALUES), "uint8"), ((None, FRAME_VALUES), "float32")}
    if (tuple(taken.shape), keras.backend.standardize_dtype(taken.dtype)) not in inputs:
        raise ModelError(
            f"model: expected {path} to take uint8 [videos, frames, {FRAME_VALUES}], or float32 [videos, "
            f"{FRAME_VALUES}] for means, found {_told(taken)}"
        )
    return model


def _told(tensor: keras.KerasTensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"
