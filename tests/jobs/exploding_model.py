"""A model of a user's own whose scores are numbers only as long as its weights are small."""

from __future__ import annotations

from typing import Any


def build(labels: int, spec: Any) -> Any:
    """Give a model of frames."""
    import keras

    frames = keras.Input((None, 1152), dtype="uint8", name="frames")
    means = keras.ops.mean(keras.layers.Rescaling(4 / 255, offset=-2.0)(frames), axis=1)
    small = keras.layers.Dense(labels, kernel_initializer="zeros")(means)
    return keras.Model(frames, keras.ops.sigmoid(keras.ops.sqrt(0.05 - 100 * small)))
