"""A dense net on a video's mean features."""

from __future__ import annotations

import keras

from shardmill.core.frames import FRAME_VALUES
from shardmill.specs.training import TrainSpec

DROPPED = 0.2


def build_video_level(labels: int, spec: TrainSpec) -> keras.Model:
    """Build three dense layers of ``dense_units``, as many, and twice as many units, each normalised and thinned.

    It is the net that the YouTube-8M project on Elephas trained (there with 500, 500 and 1,000 units over the 1,024
    values of the picture; here over sound too). Its batch normalisation is layer normalisation here: running means
    of a batch would differ from worker to worker, and no mean of weights would make them one model.
    """
    keras.utils.set_random_seed(spec.seed)
    values = means = keras.Input((FRAME_VALUES,), dtype="float32", name="means")
    for number, units in enumerate((spec.dense_units, spec.dense_units, 2 * spec.dense_units), start=1):
        values = keras.layers.Dense(units, activation="relu", name=f"dense_{number}")(values)
        values = keras.layers.LayerNormalization(name=f"norm_{number}")(values)
        values = keras.layers.Dropout(DROPPED, seed=spec.seed + number, name=f"drop_{number}")(values)
    scores = keras.layers.Dense(labels, activation="sigmoid", name="labels")(values)
    return keras.Model(means, scores, name="video_level_dense")
