"""The loss: binary cross-entropy, the mean over labels and over the real examples of a batch."""

from __future__ import annotations

import tensorflow as tf

EPSILON = 1e-7
"""Keras keeps scores so far from 0 and from 1."""


def loss_of_logits(logits: tf.Tensor, truth: tf.Tensor, weights: tf.Tensor, positives: tf.Tensor) -> tf.Tensor:
    """Give the loss of scores before their sigmoid.

    Args:
        truth: [videos, labels], 0 or 1.
        weights: [videos], 0 for fillers.
        positives: factors of the labels where they are true, [labels].
    """
    return _mean(tf.nn.weighted_cross_entropy_with_logits(truth, logits, positives), weights)


def loss_of_scores(scores: tf.Tensor, truth: tf.Tensor, weights: tf.Tensor, positives: tf.Tensor) -> tf.Tensor:
    """Give the loss of scores in 0..1, as Keras reckons it."""
    safe = tf.clip_by_value(scores, EPSILON, 1 - EPSILON)
    return _mean(-positives * truth * tf.math.log(safe) - (1 - truth) * tf.math.log(1 - safe), weights)


def _mean(each: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    return tf.math.divide_no_nan(tf.reduce_sum(tf.reduce_mean(each, axis=1) * weights), tf.reduce_sum(weights))
