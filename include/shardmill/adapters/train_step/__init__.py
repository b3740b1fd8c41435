"""One worker's step: loss, gradient and Adam, with weights and moments as flat buffers that live in TensorFlow."""

from __future__ import annotations

from typing import Protocol

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from shardmill.adapters.train_step.bilstm_gradient import BiLstmGradient
from shardmill.adapters.train_step.keras_gradient import KerasGradient
from shardmill.adapters.train_step.precision import product_precision
from shardmill.core.streams import streams_of
from shardmill.specs.training import TrainSpec

Floats = npt.NDArray[np.float32]
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7
"""Keras' Adam."""


class Examples(Protocol):
    """A batch: frames uint8 [n, t, 1152] or means float32 [n, 1152], truth [n, labels], weights [n], 0 for fillers."""

    @property
    def frames(self) -> npt.NDArray[np.generic]: ...
    @property
    def truth(self) -> Floats: ...
    @property
    def weights(self) -> Floats: ...


def limit_threads(threads: int) -> None:
    """Let TensorFlow use so many threads; before its first operation, or it raises RuntimeError."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)


class TrainStep:
    """The compiled step of a model (Adam: Kingma & Ba 2015, with Keras' constants).

    On CPUs our bidirectional LSTMs are computed by a formulation of our own; all else, and everything on a GPU, by
    Keras. Weights are those of the model when it is given, until ``set_weights``.
    """

    def __init__(self, model: keras.Model, spec: TrainSpec, labels: int, *, rank: int = 0) -> None:
        """Take a model that ``build_model`` made; workers of other ranks draw other units for dropout."""
        self._model, self._rate = model, spec.learning_rate
        self._seed, self._rank = spec.seed, rank
        self._engine = _engine(model, spec, labels)
        flat = np.concatenate([np.asarray(weight, np.float32).ravel() for weight in model.trainable_variables])
        self.size = len(flat)
        """Number of trainable weights."""
        self.steps = 0
        """Steps of Adam behind the moments."""
        self._flat = tf.Variable(flat)
        self._first, self._second = (tf.Variable(tf.zeros([self.size])) for _ in range(2))
        self._positives = tf.ones([labels])

    @property
    def engine(self) -> str:
        """Say in words what computes the gradient."""
        return self._engine.told

    def weights(self) -> Floats:
        """Give a copy of the trainable weights, float32 [size], in the model's order."""
        return np.asarray(self._flat.numpy(), np.float32)

    def set_weights(self, flat: Floats) -> None:
        """Set the trainable weights."""
        self._flat.assign(_checked(flat, self.size))

    def moments(self) -> Floats:
        """Give Adam's first moments, then its second, float32 [2 × size]."""
        return np.concatenate([self._first.numpy(), self._second.numpy()])

    def set_moments(self, flat: Floats, steps: int) -> None:
        """Set Adam's moments, and after how many of its steps they stand."""
        first, second = np.split(_checked(flat, 2 * self.size), 2)
        self._first.assign(first)
        self._second.assign(second)
        self.steps = steps

    def set_label_weights(self, weights: Floats) -> None:
        """Set the factors of the loss where a label is true, float32 [labels]; until then they are 1."""
        self._positives = tf.constant(_checked(weights, self._positives.shape[0]))

    def step(self, batch: Examples, learning_rate: float) -> float:
        """Train on a batch; give its loss, the mean over labels and real examples.

        Raises:
            FloatingPointError: the loss is not finite; the weights are then as before.
        """
        gradient, loss = self._gradient(batch)
        self._adam(gradient, learning_rate)
        return loss

    def gradient(self, batch: Examples) -> tuple[Floats, float]:
        """Give the gradient of a batch's loss, float32 [size], and the loss. Raises as ``step`` does."""
        gradient, loss = self._gradient(batch)
        return np.asarray(gradient.numpy(), np.float32), loss

    def apply(self, gradient: Floats, learning_rate: float) -> None:
        """Make a step of Adam by a gradient, float32 [size]."""
        self._adam(tf.constant(_checked(gradient, self.size)), learning_rate)

    def score(self, frames: npt.NDArray[np.generic]) -> Floats:
        """Score videos, any number of them; float32 [videos, labels]."""
        return np.asarray(self._engine.score(self._flat, frames).numpy(), np.float32)

    def model(self) -> keras.Model:
        """Give the model with the weights of now."""
        flat = self.weights()
        for weight in self._model.trainable_variables:
            size = int(np.prod(weight.shape))
            weight.assign(flat[:size].reshape(weight.shape))
            flat = flat[size:]
        return self._model

    def _gradient(self, batch: Examples) -> tuple[tf.Tensor, float]:
        self._engine.seed_step(self._seed, self._rank, self.steps)
        loss, gradient = self._engine.gradient(self._flat, batch.frames, batch.truth, batch.weights, self._positives)
        value = float(loss)
        if not np.isfinite(value):
            raise FloatingPointError(
                f"the loss is {value} after {self.steps} steps: take a learning_rate below {self._rate:g}"
            )
        return gradient, value

    def _adam(self, gradient: tf.Tensor, learning_rate: float) -> None:
        self.steps += 1
        tf.raw_ops.ResourceApplyAdam(
            var=self._flat.handle,
            m=self._first.handle,
            v=self._second.handle,
            beta1_power=BETA_1**self.steps,
            beta2_power=BETA_2**self.steps,
            lr=learning_rate,
            beta1=BETA_1,
            beta2=BETA_2,
            epsilon=EPSILON,
            grad=gradient,
        )


def _engine(model: keras.Model, spec: TrainSpec, labels: int) -> BiLstmGradient | KerasGradient:
    streams = streams_of(spec)
    if not streams or tf.config.list_physical_devices("GPU"):
        return KerasGradient(model)
    engine = BiLstmGradient(streams, spec.dense_units, labels, precision=product_precision(spec.precision))
    found = [tuple(weight.shape) for weight in model.trainable_variables]
    if found != engine.shapes:
        raise ValueError(f"the model is not the {spec.model} of this spec: expected {engine.shapes}, found {found}")
    return engine


def _checked(flat: Floats, size: int) -> Floats:
    if flat.shape != (size,) or flat.dtype != np.float32:
        raise ValueError(f"expected float32 [{size}], found {flat.dtype} {list(flat.shape)}: it is of another model")
    return flat
