"""The gradient of our bidirectional LSTMs on CPUs, chunk by chunk: faster than Keras' own layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from shardmill.adapters.train_step.losses import loss_of_logits
from shardmill.adapters.train_step.lstm_chunk import (
    CENTRE,
    Kept,
    Lstm,
    State,
    add_gradients,
    backward,
    fold,
    forward,
    unfold,
)
from shardmill.core.frames import FRAME_VALUES
from shardmill.core.streams import Stream

CHUNK = 20
"""Frames that are traced together. Longer ones take longer to trace, shorter ones more calls; the speed is the same."""

Frames = npt.NDArray[np.generic]


class _Inputs:
    """A chunk of centred frames, int8 [frames, videos, 1152], taken apart; those of padding are -128 everywhere."""

    def __init__(self, frames: tf.Tensor, product: tf.DType) -> None:
        self.real = tf.reduce_any(frames != -CENTRE, axis=-1, keepdims=True)
        self._rows, self._product = tf.reshape(frames, [-1, FRAME_VALUES]), product
        self._values: dict[str, tf.Tensor] = {}

    def values(self, stream: Stream) -> tf.Tensor:
        """Give a stream's columns, [frames × videos, columns], of the type in which they are multiplied."""
        if stream.name not in self._values:
            self._values[stream.name] = tf.cast(self._rows[:, stream.columns], self._product)
        return self._values[stream.name]


class BiLstmGradient:
    """Loss, gradient and scores of bidirectional LSTMs over streams, and a dense layer behind them, at flat weights.

    A chunk forward, the dense layers and a chunk backward are traced once, for all lengths and sizes of batches.
    Both directions go through a video at the same time, one from either end.
    """

    def __init__(
        self, streams: Sequence[Stream], dense: int, labels: int, *, chunk: int = CHUNK, precision: str = "float32"
    ) -> None:
        """Prepare to compute.

        Args:
            precision: type in which frames are multiplied with kernels and with gates' gradients, "float32" or
                "bfloat16", in which what comes of it is rounded too; all else is float32.
        """
        self._product = tf.as_dtype(precision)
        self.told = f"frames multiplied in {precision}"
        # The order of everything below is: each stream forwards, then the same stream backwards.
        self._ways = [(stream, backwards) for stream in streams for backwards in (False, True)]
        self._chunk = chunk
        shapes = [
            shape
            for stream, _ in self._ways
            for shape in ((stream.width, 4 * stream.units), (stream.units, 4 * stream.units), (4 * stream.units,))
        ]
        hidden = 2 * sum(stream.units for stream in streams)
        self.shapes = [*shapes, (hidden, dense), (dense,), (dense, labels), (labels,)]
        """Of the weights, in the model's order."""
        self._sizes = [int(np.prod(shape)) for shape in self.shapes]
        self._prepare, self._finish, self._forward, self._backward, self._head, self._scores = (
            tf.function(body, autograph=False, input_signature=arguments) for body, arguments in self._traced(labels)
        )

    def gradient(
        self, flat: tf.Tensor, frames: Frames, truth: Any, weights: Any, positives: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Give the loss and its gradient by the flat weights; arguments as of ``loss_of_logits``.

        Args:
            frames: [videos, frames, 1152].
        """
        lstms, dense = self._weights(flat)
        chunks = list(self._chunks(frames))
        kept: list[list[Kept]] = []
        states = self._run(lstms, chunks, kept)
        loss, by_hidden, by_dense = self._head(
            [state.hidden for state in states], dense, tf.constant(truth), tf.constant(weights), positives
        )
        by_state = [State(one, tf.zeros_like(one)) for one in by_hidden]
        sums = [Lstm(*(tf.zeros(weight.shape) for weight in lstm)) for lstm in lstms]
        for first, last in zip(reversed(chunks), chunks, strict=True):
            by_state, sums = self._backward(first, last, lstms, kept.pop(), by_state, sums)
        return loss, self._finish(sums, by_dense)

    def seed_step(self, seed: int, rank: int, step: int) -> None:
        """Nothing is drawn here."""

    def score(self, flat: tf.Tensor, frames: Frames) -> tf.Tensor:
        """Give the scores, float32 [videos, labels]."""
        lstms, dense = self._weights(flat)
        states = self._run(lstms, list(self._chunks(frames)), None)
        return self._scores([state.hidden for state in states], dense)

    def _traced(self, labels: int) -> list[tuple[Callable[..., Any], list[Any]]]:
        """Give what is traced, and its arguments' shapes."""
        spec, shapes = tf.TensorSpec, iter(self.shapes)
        lstms = [Lstm(*(spec(next(shapes)) for _ in Lstm._fields)) for _ in self._ways]
        dense = [spec(shape) for shape in shapes]
        folded = [lstm._replace(kernel=spec(lstm.kernel.shape, self._product)) for lstm in lstms]
        units = [stream.units for stream, _ in self._ways]
        states = [State(*(spec([None, width]) for _ in State._fields)) for width in units]
        kept = [
            Kept(
                gates=spec([self._chunk, None, 4 * width]),
                hidden=spec([self._chunk, None, width]),
                cells=spec([self._chunk + 1, None, width]),
            )
            for width in units
        ]
        frames, hidden = spec([self._chunk, None, FRAME_VALUES], tf.int8), [state.hidden for state in states]
        return [
            (self._folded, [lstms]),
            (_finish, [lstms, dense]),
            (self._chunk_forward, [frames, frames, folded, states]),
            (self._chunk_backward, [frames, frames, folded, kept, states, lstms]),
            (_head, [hidden, dense, spec([None, labels]), spec([None]), spec([labels])]),
            (_scores, [hidden, dense]),
        ]

    def _weights(self, flat: tf.Tensor) -> tuple[list[Lstm], list[tf.Tensor]]:
        parts = [tf.reshape(part, shape) for part, shape in zip(tf.split(flat, self._sizes), self.shapes, strict=True)]
        lstms = [Lstm(*parts[start : start + 3]) for start in range(0, 3 * len(self._ways), 3)]
        return self._prepare(lstms), parts[3 * len(self._ways) :]

    def _folded(self, lstms: list[Lstm]) -> list[Lstm]:
        return [fold(Lstm(*lstm), self._product) for lstm in lstms]

    def _chunks(self, frames: Frames) -> Iterator[tf.Tensor]:
        videos, length = frames.shape[:2]
        whole = -(-length // self._chunk) * self._chunk
        by_time = np.zeros((whole, videos, FRAME_VALUES), np.uint8)  # what is behind the end is padding
        by_time[:length] = frames.transpose(1, 0, 2)
        by_time ^= CENTRE
        by_time = by_time.view(np.int8)
        return (tf.constant(by_time[start : start + self._chunk]) for start in range(0, whole, self._chunk))

    def _run(self, lstms: list[Lstm], chunks: list[tf.Tensor], kept: list[list[Kept]] | None) -> list[State]:
        videos = int(chunks[0].shape[1])
        states = [State(*(tf.zeros([videos, stream.units]) for _ in range(2))) for stream, _ in self._ways]
        for first, last in zip(chunks, reversed(chunks), strict=True):
            states, of_chunk = self._forward(first, last, lstms, states)
            if kept is not None:
                kept.append(of_chunk)
        return states

    def _chunk_forward(
        self, first: tf.Tensor, last: tf.Tensor, lstms: list[Lstm], states: list[State]
    ) -> tuple[list[State], list[Kept]]:
        inputs = (_Inputs(first, self._product), _Inputs(last, self._product))
        done = []
        for (stream, backwards), lstm, state in zip(self._ways, lstms, states, strict=True):
            chunk = inputs[backwards]
            done.append(forward(chunk.values(stream), chunk.real, lstm, State(*state), backwards=backwards))
        return [state for state, _ in done], [kept for _, kept in done]

    def _chunk_backward(
        self,
        first: tf.Tensor,
        last: tf.Tensor,
        lstms: list[Lstm],
        kept: list[Kept],
        by_state: list[State],
        sums: list[Lstm],
    ) -> tuple[list[State], list[Lstm]]:
        inputs = (_Inputs(first, self._product), _Inputs(last, self._product))
        states, added = [], []
        for number, (stream, backwards) in enumerate(self._ways):
            chunk, of_way = inputs[backwards], Kept(*kept[number])
            state, by_gates = backward(
                chunk.real, lstms[number].recurrent, of_way, State(*by_state[number]), backwards=backwards
            )
            states.append(state)
            added.append(add_gradients(Lstm(*sums[number]), chunk.values(stream), of_way, by_gates))
        return states, added


def _finish(sums: list[Lstm], dense: list[tf.Tensor]) -> tf.Tensor:
    whole = [weight for lstm in sums for weight in unfold(Lstm(*lstm))]
    return tf.concat([tf.reshape(weight, [-1]) for weight in [*whole, *dense]], axis=0)


def _logits(hidden: list[tf.Tensor], dense: list[tf.Tensor]) -> tf.Tensor:
    kernel, bias, label_kernel, label_bias = dense
    middle = tf.nn.relu(tf.matmul(tf.concat(hidden, axis=1), kernel) + bias)
    return tf.matmul(middle, label_kernel) + label_bias


def _scores(hidden: list[tf.Tensor], dense: list[tf.Tensor]) -> tf.Tensor:
    return tf.sigmoid(_logits(hidden, dense))


def _head(
    hidden: list[tf.Tensor], dense: list[tf.Tensor], truth: tf.Tensor, weights: tf.Tensor, positives: tf.Tensor
) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
    with tf.GradientTape() as tape:
        tape.watch([hidden, dense])
        loss = loss_of_logits(_logits(hidden, dense), truth, weights, positives)
    by_hidden, by_dense = tape.gradient(loss, [hidden, dense])
    return loss, by_hidden, by_dense
