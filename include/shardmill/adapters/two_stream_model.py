"""The model: two bidirectional LSTMs, one over pictures and one over sound, behind one input."""

from __future__ import annotations

from functools import lru_cache

import keras
import numpy as np
import numpy.typing as npt

from shardmill.core.frames import FRAME_VALUES, RGB_VALUES, fill_batch
from shardmill.specs.training import TrainSpec


def build_model(labels: int, spec: TrainSpec) -> keras.Model:
    """Build the model with weights drawn by the spec's seed; raise MODEL_VERSION when this changes.

    Elephas cannot feed inputs of unequal widths and rebuilds the model from its JSON: so there is one input, uint8
    [videos, frames, 1152], taken apart by operations that survive the JSON. A frame of zeros is padding.
    """
    keras.utils.set_random_seed(spec.seed)
    frames = keras.Input((None, FRAME_VALUES), dtype="uint8", name="frames")
    mask = keras.ops.any(keras.ops.not_equal(frames, 0), axis=-1)
    # YouTube-8M quantises features from -2 to 2 in 256 steps.
    values = keras.layers.Rescaling(4 / 255, offset=-2.0, name="dequantise")(frames)
    streams = [
        keras.layers.Bidirectional(keras.layers.LSTM(units), name=name)(values[:, :, columns], mask=mask)
        for name, units, columns in (
            ("rgb", spec.rgb_units, slice(None, RGB_VALUES)),
            ("audio", spec.audio_units, slice(RGB_VALUES, None)),
        )
    ]
    hidden = keras.layers.Dense(spec.dense_units, activation="relu", name="dense")(
        keras.layers.Concatenate(name="both")(streams)
    )
    scores = keras.layers.Dense(labels, activation="sigmoid", name="labels")(hidden)
    return keras.Model(frames, scores, name="two_stream")


def compile_model(model: keras.Model, spec: TrainSpec) -> keras.Model:
    """Give the model its loss and its optimizer."""
    model.compile(optimizer=keras.optimizers.Adam(spec.learning_rate), loss="binary_crossentropy", jit_compile=False)
    return model


def weight_names(model: keras.Model) -> list[str]:
    """Name the weights by position and layer; Keras' own names depend on what else a process built."""
    owners = {id(weight): layer.name for layer in model.layers for weight in layer.weights}
    return [f"{index:02d}.{owners[id(weight)]}" for index, weight in enumerate(model.weights)]


def named_weights(model: keras.Model) -> dict[str, npt.NDArray[np.float32]]:
    """Give the model's weights by name."""
    return dict(zip(weight_names(model), model.get_weights(), strict=True))


def set_named_weights(model: keras.Model, arrays: dict[str, npt.NDArray[np.float32]]) -> None:
    """Set the model's weights from arrays that bear the model's names. Raises ValueError where they do not fit."""
    expected = {name: tuple(weight.shape) for name, weight in zip(weight_names(model), model.weights, strict=True)}
    found = {name: array.shape for name, array in arrays.items()}
    if expected != found:
        raise ValueError(f"the weights do not fit this model: expected {expected}, found {found}")
    model.set_weights([arrays[name] for name in expected])


@lru_cache(maxsize=1)
def scoring_model(labels: int, spec: TrainSpec) -> keras.Model:
    """Give the model for scoring; once built, a worker process keeps it, for tracing it takes seconds."""
    return build_model(labels, spec)


def score(model: keras.Model, frames: npt.NDArray[np.uint8], batch_size: int) -> npt.NDArray[np.float32]:
    """Score at most ``batch_size`` videos; float32 [videos, labels]."""
    return np.asarray(model.predict_on_batch(fill_batch(frames, batch_size))[: len(frames)], np.float32)
