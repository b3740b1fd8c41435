"""The gradient of any Keras model, by TensorFlow's differentiation; on a GPU its LSTMs are cuDNN's."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from shardmill.adapters.train_step.losses import loss_of_scores

_DICE = "seed_generator_state"
"""Keras' name for what its random layers draw from, integers [2]."""


class KerasGradient:
    """Loss, gradient and scores of a Keras model at flat weights; traced once for all sizes of batches.

    What a model keeps beside its trainable weights (running means) stays with this worker.
    """

    told = "Keras' layers"

    def __init__(self, model: keras.Model, *, xla: bool = False) -> None:
        self._model = model
        self._dice = [kept for kept in model.non_trainable_variables if kept.name == _DICE]
        self._sizes = [int(np.prod(weight.shape)) for weight in model.trainable_variables]
        taken = model.inputs[0]
        frames = tf.TensorSpec(taken.shape, taken.dtype)
        flat = tf.TensorSpec([sum(self._sizes)], tf.float32)
        truth = tf.TensorSpec(model.outputs[0].shape, tf.float32)
        weights, positives = tf.TensorSpec([None], tf.float32), tf.TensorSpec(truth.shape[1:], tf.float32)
        self.gradient = tf.function(self._gradient, [flat, frames, truth, weights, positives], jit_compile=xla)
        self.score = tf.function(self._score, [flat, frames])

    def seed_step(self, seed: int, rank: int, step: int) -> None:
        """Let what follows drop other units than any other worker or step does, and the same if it is done again."""
        for number, dice in enumerate(self._dice):
            dice.assign(np.random.SeedSequence((seed, rank, step, number)).generate_state(2).astype(np.int64))

    def _take(self, flat: tf.Tensor) -> None:
        parts = tf.split(flat, self._sizes)
        for weight, part in zip(self._model.trainable_variables, parts, strict=True):
            weight.assign(tf.reshape(part, weight.shape))

    def _gradient(
        self, flat: tf.Tensor, frames: tf.Tensor, truth: tf.Tensor, weights: tf.Tensor, positives: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        self._take(flat)
        with tf.GradientTape() as tape:
            scores = self._model(frames, training=True)
            loss = loss_of_scores(scores, truth, weights, positives)
            if self._model.losses:
                loss += tf.add_n(self._model.losses)
        each = tape.gradient(loss, self._model.trainable_variables, unconnected_gradients="zero")
        return loss, tf.concat([tf.reshape(tf.convert_to_tensor(one), [-1]) for one in each], axis=0)

    def _score(self, flat: tf.Tensor, frames: tf.Tensor) -> tf.Tensor:
        self._take(flat)
        return self._model(frames, training=False)
