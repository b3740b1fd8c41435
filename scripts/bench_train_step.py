"""Time one training step of the default model by each formulation, on one thread, in turn, in one process.

    PYTHONPATH=include .local/cluster/bin/python scripts/bench_train_step.py --batches 64,128 --frames 60

Counted is processor time, so what else the machine does counts less. Prints a line a formulation and size: examples/s
(median and best), how many times the speed of Keras' layers, and the seconds of the first step, tracing and compiling.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from shardmill.adapters.keras_models import build_model, flat_weights
from shardmill.adapters.train_step import limit_threads
from shardmill.adapters.train_step.bilstm_gradient import BiLstmGradient
from shardmill.adapters.train_step.keras_gradient import KerasGradient
from shardmill.core.frames import FRAME_VALUES
from shardmill.core.streams import streams_of
from shardmill.specs.training import TrainSpec

LABELS = 20
BFLOAT16_ERROR = 0.03
"""Norm of the difference to Keras' gradient, as a share of its norm: a rounding step of bfloat16 is 0.004."""
SPEC = TrainSpec(rgb_units=100, audio_units=100, dense_units=64)


def formulations(chunks: list[int], *, xla: bool) -> dict[str, KerasGradient | BiLstmGradient]:
    """Give what computes the same gradient, by name."""
    ways: dict[str, KerasGradient | BiLstmGradient] = {"Keras layers": KerasGradient(build_model(LABELS, SPEC))}
    if xla:
        ways["Keras layers, XLA"] = KerasGradient(build_model(LABELS, SPEC), xla=True)
    for chunk in chunks:
        for precision in ("float32", "bfloat16"):
            ways[f"ours, {chunk} frames a chunk, {precision}"] = BiLstmGradient(
                streams_of(SPEC), SPEC.dense_units, LABELS, chunk=chunk, precision=precision
            )
    return ways


def main() -> None:
    """Measure as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default="64,128,256")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--chunks", default="20")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--xla", action="store_true", help="Keras' layers by XLA too; it compiles for every size anew")
    asked = parser.parse_args()
    limit_threads(1)
    ways = formulations([int(chunk) for chunk in asked.chunks.split(",")], xla=asked.xla)
    flat = flat_weights(build_model(LABELS, SPEC))
    for batch in (int(size) for size in asked.batches.split(",")):
        measure({name: step(way, flat, batch, asked.frames) for name, way in ways.items()}, batch, asked.rounds)


def step(way: KerasGradient | BiLstmGradient, flat: np.ndarray, batch: int, length: int) -> Callable[[], np.ndarray]:
    """Give a call that computes a gradient, to its end."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    frames = random.integers(1, 256, (batch, length, FRAME_VALUES), np.uint8)
    truth, weights = (random.random((batch, LABELS)) < 0.2).astype(np.float32), np.ones(batch, np.float32)
    variable, positives = tf.Variable(flat), tf.ones([LABELS])

    def run() -> np.ndarray:
        return np.asarray(way.gradient(variable, frames, truth, weights, positives)[1].numpy())

    return run


def measure(steps: dict[str, Callable[[], np.ndarray]], batch: int, rounds: int) -> None:
    """Time the steps in turn, check that they agree, and print."""
    first, reference = {}, None
    for name, run in steps.items():
        begun = time.process_time()
        found = run()
        first[name] = time.process_time() - begun
        reference = found if reference is None else reference
        error = np.linalg.norm(found - reference) / np.linalg.norm(reference)
        if error > (BFLOAT16_ERROR if name.endswith("bfloat16") else 1e-4):
            raise SystemExit(f"{name}: the gradient differs from Keras' by {error:.1e}")
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, run in steps.items():
            begun = time.process_time()
            run()
            taken[name].append(time.process_time() - begun)
    keras = next(iter(taken.values()))
    for name, seconds in taken.items():
        ratio = statistics.median(one / other for one, other in zip(keras, seconds, strict=True))
        speed = f"{batch / statistics.median(seconds):.0f} examples/s, best {batch / min(seconds):.0f}"
        print(f"batch {batch}: {name}: {speed}; {ratio:.2f} times Keras; first step {first[name]:.1f} s", flush=True)


if __name__ == "__main__":
    main()
