"""Bidirectional LSTMs over streams of frames, behind one input."""

from __future__ import annotations

import keras

from shardmill.core.frames import FRAME_VALUES
from shardmill.core.streams import streams_of
from shardmill.specs.training import TrainSpec


def build_bilstm(labels: int, spec: TrainSpec) -> keras.Model:
    """Build a bidirectional LSTM for each stream, and a dense layer behind their last states.

    Elephas cannot feed inputs of unequal widths and rebuilds the model from its JSON: so there is one input, uint8
    [videos, frames, 1152], taken apart by operations that survive the JSON. A frame of zeros is padding. Raise
    MODEL_VERSION when this changes; `train_step` computes the same by a formulation of its own.
    """
    keras.utils.set_random_seed(spec.seed)
    frames = keras.Input((None, FRAME_VALUES), dtype="uint8", name="frames")
    mask = keras.ops.any(keras.ops.not_equal(frames, 0), axis=-1)
    # YouTube-8M quantises features from -2 to 2 in 256 steps.
    values = keras.layers.Rescaling(4 / 255, offset=-2.0, name="dequantise")(frames)
    states = [
        keras.layers.Bidirectional(keras.layers.LSTM(stream.units), name=stream.name)(
            values[:, :, stream.columns], mask=mask
        )
        for stream in streams_of(spec)
    ]
    both = keras.layers.Concatenate(name="both")(states) if len(states) > 1 else states[0]
    hidden = keras.layers.Dense(spec.dense_units, activation="relu", name="dense")(both)
    scores = keras.layers.Dense(labels, activation="sigmoid", name="labels")(hidden)
    # Its name is part of what was published: the first model had no other.
    name = "two_stream" if spec.model == "two_stream_bilstm" else spec.model
    return keras.Model(frames, scores, name=name)
