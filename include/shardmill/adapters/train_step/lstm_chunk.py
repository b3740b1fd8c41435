"""An LSTM over a chunk of frames and back: what TensorFlow's loops would do a frame at a time is hoisted out of them.

The LSTM is Keras' (Hochreiter & Schmidhuber 1997, with forget gate; gates in the order input, forget, cell, output), a
masked frame carries the state. Only what depends on the frame before stays in the loop, which is unrolled: the input's
projection of all frames is one product of matrices before it, and so are the weights' gradients behind the backward
loop, whose element-wise factors are reckoned for all frames at once. The input is bytes and needs no gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

CENTRE = 128
"""What is taken from a byte, so that small numbers are multiplied; each is exact in bfloat16 too."""
SCALE = 4 / 255
OFFSET = CENTRE * SCALE - 2.0
"""YouTube-8M quantises features from -2 to 2 in 256 steps."""


class Lstm(NamedTuple):
    """Weights of one direction, or their gradients."""

    kernel: tf.Tensor
    """[columns, 4 × units]; when folded, of the type in which frames are multiplied."""
    recurrent: tf.Tensor
    """[units, 4 × units]."""
    bias: tf.Tensor
    """[4 × units]."""


class State(NamedTuple):
    """What an LSTM carries from frame to frame, or the loss' gradients by it; each [videos, units]."""

    hidden: tf.Tensor
    cell: tf.Tensor


class Kept(NamedTuple):
    """What the backward pass needs of a chunk."""

    gates: tf.Tensor
    """After their sigmoid, [frames, videos, 4 × units]."""
    hidden: tf.Tensor
    """Before each frame, [frames, videos, units]."""
    cells: tf.Tensor
    """Before each frame, and after the last, in the direction's order: [frames + 1, videos, units]."""


def _doubled(units: int) -> npt.NDArray[np.float32]:
    # tanh(x) = 2 sigmoid(2x) - 1: with the cell's columns doubled one sigmoid does for all four gates.
    factors = np.ones(4 * units, np.float32)
    factors[2 * units : 3 * units] = 2
    return factors


def fold(weights: Lstm, product: tf.DType) -> Lstm:
    """Put dequantisation and the doubling of the cell's columns into the weights: they then take centred bytes.

    Args:
        product: type in which frames are multiplied.
    """
    double = _doubled(weights.recurrent.shape[0])
    bias = weights.bias + OFFSET * tf.reduce_sum(weights.kernel, axis=0)
    return Lstm(tf.cast(weights.kernel * (SCALE * double), product), weights.recurrent * double, bias * double)


def unfold(gradients: Lstm) -> Lstm:
    """Turn the gradients by folded weights into those by the weights themselves."""
    double = _doubled(gradients.recurrent.shape[0])
    bias = gradients.bias * double
    return Lstm(gradients.kernel * (SCALE * double) + OFFSET * bias, gradients.recurrent * double, bias)


def forward(values: tf.Tensor, real: tf.Tensor, weights: Lstm, state: State, *, backwards: bool) -> tuple[State, Kept]:
    """Advance through a chunk.

    Args:
        values: bytes less CENTRE, [frames × videos, columns], the frames of a moment side by side, of the type in which
            they are multiplied.
        real: false for padding, bool [frames, videos, 1]; its first dimension must be known.
        weights: folded.
    """
    projected = tf.nn.bias_add(tf.cast(tf.matmul(values, weights.kernel), tf.float32), weights.bias)
    frames, units = int(real.shape[0]), weights.recurrent.shape[0]
    inputs, masks = tf.unstack(tf.reshape(projected, [frames, -1, 4 * units])), tf.unstack(real)
    order = range(frames - 1, -1, -1) if backwards else range(frames)
    gates: list[tf.Tensor] = [None] * frames
    hidden: list[tf.Tensor] = [None] * frames
    cells: list[tf.Tensor] = []
    for frame in order:
        hidden[frame] = state.hidden
        cells.append(state.cell)
        gates[frame] = tf.sigmoid(inputs[frame] + tf.matmul(state.hidden, weights.recurrent))
        into, keep, new, out = tf.split(gates[frame], 4, axis=1)
        taken = into * new
        cell = keep * state.cell + (taken + taken - into)
        state = State(
            tf.where(masks[frame], out * tf.tanh(cell), state.hidden), tf.where(masks[frame], cell, state.cell)
        )
    return state, Kept(tf.stack(gates), tf.stack(hidden), tf.stack([*cells, state.cell]))


def backward(
    real: tf.Tensor, recurrent: tf.Tensor, kept: Kept, gradients: State, *, backwards: bool
) -> tuple[State, tf.Tensor]:
    """Go back through a chunk: from the gradients by the state behind it to those by the state before it.

    Returns:
        The gradients by the state, and those by the gates' sums, [frames × videos, 4 × units].
    """
    before, after = kept.cells[:-1], kept.cells[1:]
    if backwards:
        before, after = before[::-1], after[::-1]
    counts = tf.cast(real, tf.float32)
    into, keep, new, out = tf.split(kept.gates, 4, axis=2)
    squashed = tf.tanh(after)
    slopes = tf.split(kept.gates * (1 - kept.gates) * counts, 4, axis=2)
    by_gate = (new + new - 1, before, into + into, squashed)
    factors = tf.unstack(tf.concat([slope * factor for slope, factor in zip(slopes, by_gate, strict=True)], axis=2))
    through_hidden = tf.unstack(out * (1 - squashed * squashed) * counts)
    through_cell, carried = tf.unstack(tf.where(real, keep, 1.0)), tf.unstack(1 - counts)
    turned = tf.transpose(recurrent)
    sums: list[tf.Tensor] = [None] * len(factors)
    hidden, cell = gradients
    for frame in range(len(factors)) if backwards else range(len(factors) - 1, -1, -1):
        cell += hidden * through_hidden[frame]
        sums[frame] = tf.concat([cell, cell, cell, hidden], axis=1) * factors[frame]
        cell *= through_cell[frame]
        hidden = tf.matmul(sums[frame], turned) + hidden * carried[frame]
    return State(hidden, cell), tf.concat(sums, axis=0)


def add_gradients(so_far: Lstm, values: tf.Tensor, kept: Kept, sums: tf.Tensor) -> Lstm:
    """Add a chunk's part to the gradients by the folded weights."""
    hidden = tf.reshape(kept.hidden, [-1, so_far.recurrent.shape[0]])
    by_kernel = tf.matmul(values, tf.cast(sums, values.dtype), transpose_a=True)
    return Lstm(
        so_far.kernel + tf.cast(by_kernel, tf.float32),
        so_far.recurrent + tf.matmul(hidden, sums, transpose_a=True),
        so_far.bias + tf.reduce_sum(sums, axis=0),
    )
