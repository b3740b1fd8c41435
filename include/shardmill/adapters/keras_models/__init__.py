"""The models that can be trained, in Keras, and their weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import keras
import numpy as np
import numpy.typing as npt

from shardmill.adapters.keras_models.bilstm import build_bilstm
from shardmill.adapters.keras_models.own_model import Build, ModelError, check_model, import_build
from shardmill.adapters.keras_models.video_level import build_video_level
from shardmill.adapters.keras_models.weights import (
    flat_weights,
    named_weights,
    set_flat_weights,
    set_named_weights,
    weight_names,
)
from shardmill.core.frames import fill_batch
from shardmill.specs.training import TrainSpec

__all__ = [
    "MODELS",
    "Level",
    "ModelError",
    "ModelKind",
    "build_model",
    "compile_model",
    "flat_weights",
    "model_level",
    "named_weights",
    "score",
    "scoring_model",
    "set_flat_weights",
    "set_named_weights",
    "weight_names",
]

Level = Literal["frame", "video"]


@dataclass(frozen=True)
class ModelKind:
    """How a model is built, and of what records it learns."""

    build: Build
    level: Level


MODELS: dict[str, ModelKind] = {
    "two_stream_bilstm": ModelKind(build_bilstm, "frame"),
    "rgb_bilstm": ModelKind(build_bilstm, "frame"),
    "video_level_dense": ModelKind(build_video_level, "video"),
}


def build_model(labels: int, spec: TrainSpec) -> keras.Model:
    """Build the model that a spec names, with weights drawn by its seed.

    Returns:
        A model from uint8 [videos, frames, 1152] (a frame of zeros is padding), or from float32 [videos, 1152] where
        it learns of video-level records, to float32 [videos, labels] in 0..1.

    Raises:
        ModelError: there is no such model, or a user's own is not what it should be.
    """
    if kind := MODELS.get(spec.model):
        return kind.build(labels, spec)
    if ":" not in spec.model:
        raise ModelError(
            f"model: expected one of {', '.join(MODELS)}, or package.module:function of your own, found {spec.model}"
        )
    keras.utils.set_random_seed(spec.seed)
    return check_model(import_build(spec.model)(labels, spec), spec.model, labels)


def model_level(model: keras.Model) -> Level:
    """Tell of what records a model learns: frames of a video, or its mean features."""
    return "frame" if len(model.inputs[0].shape) == 3 else "video"


def compile_model(model: keras.Model, spec: TrainSpec) -> keras.Model:
    """Give the model its loss and its optimizer, as Keras itself and Elephas train it."""
    model.compile(optimizer=keras.optimizers.Adam(spec.learning_rate), loss="binary_crossentropy", jit_compile=False)
    return model


@lru_cache(maxsize=1)
def scoring_model(labels: int, spec: TrainSpec) -> keras.Model:
    """Give the model for scoring; once built, a worker process keeps it, for tracing it takes seconds."""
    return build_model(labels, spec)


def score(model: keras.Model, frames: npt.NDArray[np.generic], batch_size: int) -> npt.NDArray[np.float32]:
    """Score at most ``batch_size`` videos; float32 [videos, labels]."""
    return np.asarray(model.predict_on_batch(fill_batch(frames, batch_size))[: len(frames)], np.float32)
