"""Train by plain Keras `fit`, as a user would write it. A program of the cluster's environment: ``… ASKED.json``.

tf.data reads, parses, shuffles, pads and prefetches; the model is the same, compiled by Keras, on all threads. A line
of JSON after every epoch. Nothing of this is ours but the model's layers and the metric.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from shardmill.adapters.keras_models import build_model, compile_model
from shardmill.core.metrics import global_average_precision
from shardmill.specs.training import TrainSpec

_CONTEXT = {"labels": tf.io.VarLenFeature(tf.int64)}
_FRAMES = {name: tf.io.FixedLenSequenceFeature([], tf.string) for name in ("rgb", "audio")}


def records(paths: list[str], labels: int, batch_size: int, *, shuffled: int) -> tf.data.Dataset:
    """Give batches of (frames, truth), padded to the longest video of each."""

    def parse(serialised: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        context, lists = tf.io.parse_single_sequence_example(serialised, _CONTEXT, _FRAMES)
        frames = tf.concat([tf.io.decode_raw(lists[name], tf.uint8) for name in ("rgb", "audio")], axis=1)
        frames = tf.ensure_shape(frames, [None, 1152])
        there = tf.sparse.to_dense(context["labels"])
        return frames, tf.reduce_max(tf.one_hot(there, labels), axis=0)

    data = tf.data.TFRecordDataset(paths)
    if shuffled:
        data = data.shuffle(shuffled, reshuffle_each_iteration=True)  # serialised, as small as can be
    data = data.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    return data.padded_batch(batch_size, ([None, 1152], [labels])).prefetch(tf.data.AUTOTUNE)


class Clock(keras.callbacks.Callback):
    """Tells each epoch's seconds, and how good the model is behind it."""

    def __init__(self, validation: tf.data.Dataset) -> None:
        super().__init__()
        self._validation, self._begun, self._epoch = validation, 0.0, 0
        self._truth = np.concatenate([truth.numpy() for _, truth in validation])

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock."""
        self._begun = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Stop it, then measure."""
        seconds = time.monotonic() - self._begun
        scores = np.concatenate([np.asarray(self.model.predict_on_batch(frames)) for frames, _ in self._validation])
        gap = global_average_precision(scores, self._truth > 0)
        print(json.dumps({"epoch": epoch + 1, "seconds": seconds, "gap": gap}), flush=True)


def main() -> None:
    """Train as asked."""
    asked = json.loads(Path(sys.argv[1]).read_text())
    spec = TrainSpec.model_validate(asked["training"])
    tf.keras.utils.set_random_seed(spec.seed)
    model = compile_model(build_model(asked["labels"], spec), spec)
    train = records(asked["train"], asked["labels"], spec.batch_size, shuffled=asked["records"])
    validation = records(asked["validation"], asked["labels"], spec.batch_size, shuffled=0)
    model.fit(train, epochs=spec.epochs, verbose=0, callbacks=[Clock(validation)])


if __name__ == "__main__":
    main()
