"""The compiled step: equal to Keras' own layers and optimizer, whatever its formulation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shardmill.core.frames import FRAME_VALUES
from shardmill.specs.training import TrainSpec

LABELS = 6
SPEC = TrainSpec(rgb_units=9, audio_units=5, dense_units=7, seed=5, learning_rate=0.01, precision="float32")


@dataclass(frozen=True, eq=False)
class Batch:
    """What a step reads of a batch."""

    frames: np.ndarray
    truth: np.ndarray
    weights: np.ndarray


def batch_of(seed: int, *, videos: int = 6, length: int = 47) -> Batch:
    """Videos of any length from one frame up, one with a gap of padding in it, and fillers at the end."""
    random = np.random.default_rng(seed)
    frames = random.integers(1, 256, (videos, length, FRAME_VALUES), np.uint8)
    for video, end in enumerate(random.integers(1, length + 1, videos)):
        frames[video, end:] = 0
    frames[0] = random.integers(1, 256, (length, FRAME_VALUES), np.uint8)
    frames[0, 3:5] = 0
    weights = np.ones(videos, np.float32)
    weights[-2:] = 0
    return Batch(frames, (random.random((videos, LABELS)) < 0.4).astype(np.float32), weights)


def step_of(spec: TrainSpec = SPEC, rank: int = 0) -> Any:
    from shardmill.adapters.keras_models import build_model
    from shardmill.adapters.train_step import TrainStep

    return TrainStep(build_model(LABELS, spec), spec, LABELS, rank=rank)


def keras_gradient(step: Any, batch: Batch) -> tuple[np.ndarray, float, np.ndarray]:
    """The gradient, the loss and the scores as Keras and TensorFlow compute them for the examples that count."""
    import keras
    import tensorflow as tf

    model = step.model()
    real = batch.weights > 0
    with tf.GradientTape() as tape:
        scores = model(batch.frames[real], training=True)
        loss = tf.reduce_mean(keras.losses.binary_crossentropy(batch.truth[real], scores))
    each = tape.gradient(loss, model.trainable_variables)
    return np.concatenate([np.ravel(one) for one in each]), float(loss), np.asarray(model(batch.frames))


@pytest.fixture(scope="module", params=["two_stream_bilstm", "rgb_bilstm"])
def step(request: pytest.FixtureRequest) -> Any:
    return step_of(SPEC.model_copy(update={"model": request.param}))


@pytest.fixture(scope="module")
def two_stream() -> Any:
    return step_of()


@pytest.mark.parametrize("length", [1, 20, 47])
def test_loss_gradient_and_scores_are_those_of_keras_layers(step: Any, length: int) -> None:
    random = np.random.default_rng(length)
    step.set_weights(random.normal(scale=0.1, size=step.size).astype(np.float32))
    batch = batch_of(length, length=max(length, 6))
    batch = replace(batch, frames=batch.frames[:, :length])
    batch.frames[:, 0] = np.maximum(batch.frames[:, 0], 1)
    expected, loss, scores = keras_gradient(step, batch)

    found, found_loss = step.gradient(batch)

    assert found_loss == pytest.approx(loss, rel=1e-4)
    assert step.score(batch.frames) == pytest.approx(scores, rel=1e-4)
    start = 0
    for weight in step.model().trainable_variables:
        part = slice(start, start := start + int(np.prod(weight.shape)))
        assert np.linalg.norm(found[part] - expected[part]) <= 1e-4 * np.linalg.norm(expected[part]), weight.path


def test_frames_multiplied_in_bfloat16_give_keras_gradient_to_a_few_steps_of_rounding(two_stream: Any) -> None:
    rounded = step_of(SPEC.model_copy(update={"precision": "bfloat16"}))
    weights = np.random.default_rng(8).normal(scale=0.1, size=two_stream.size).astype(np.float32)
    two_stream.set_weights(weights)
    rounded.set_weights(weights)
    batch = batch_of(8)
    expected, loss, scores = keras_gradient(two_stream, batch)

    found, found_loss = rounded.gradient(batch)

    assert "bfloat16" in rounded.engine
    assert not np.array_equal(found, two_stream.gradient(batch)[0])
    assert found_loss == pytest.approx(loss, rel=0.01)
    assert rounded.score(batch.frames) == pytest.approx(scores, rel=0.02)
    assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)


def test_everything_is_traced_once_for_batches_of_every_size_and_length(monkeypatch: pytest.MonkeyPatch) -> None:
    from shardmill.adapters.train_step import bilstm_gradient

    traced: list[str] = []
    for name in ("forward", "backward", "fold", "unfold", "loss_of_logits"):
        body = getattr(bilstm_gradient, name)

        def seen(*values: Any, _name: str = name, _body: Any = body, **named: Any) -> Any:
            traced.append(_name)
            return _body(*values, **named)

        monkeypatch.setattr(bilstm_gradient, name, seen)
    step = step_of()
    step.gradient(batch_of(1))
    assert traced.count("backward") == 4
    assert len(traced) == 17

    step.gradient(batch_of(2, videos=4, length=71))
    step.score(batch_of(3, videos=9).frames)

    assert len(traced) == 17


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx512f avx512_bf16", "bfloat16"),
        ("fpu amx_bf16 amx_tile", "bfloat16"),
        ("fpu avx2 avx512f bf16c", "float32"),
        (None, "float32"),
    ],
)
def test_frames_are_multiplied_in_bfloat16_where_the_cpu_is_faster_at_it_and_nowhere_else(
    flags: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shardmill.adapters.train_step.precision import product_precision

    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: none\n")
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)

    assert product_precision("auto", cpuinfo) == expected
    assert product_precision("float32", cpuinfo) == "float32"
    assert product_precision("bfloat16", cpuinfo) == "bfloat16"
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert product_precision("auto", cpuinfo) == "float32"


def test_steps_end_where_keras_fit_ends(two_stream: Any) -> None:
    import keras

    from shardmill.adapters.keras_models import build_model, flat_weights

    reference = build_model(LABELS, SPEC)
    reference.compile(keras.optimizers.Adam(SPEC.learning_rate), loss="binary_crossentropy", jit_compile=False)
    two_stream.set_weights(flat_weights(reference))
    two_stream.set_moments(np.zeros(2 * two_stream.size, np.float32), 0)
    for seed in range(6):
        batch = replace(batch_of(seed, length=20), weights=np.ones(6, np.float32))
        expected = float(reference.train_on_batch(batch.frames, batch.truth))
        loss = two_stream.step(batch, SPEC.learning_rate)
        if seed == 0:
            assert loss == pytest.approx(expected, rel=1e-4)
    assert two_stream.steps == 6
    assert np.abs(two_stream.weights() - flat_weights(reference)).max() < 1e-3


def test_a_step_is_its_gradient_applied_and_goes_on_from_buffers_that_were_taken_out(two_stream: Any) -> None:
    batch = batch_of(1)
    two_stream.step(batch, 0.01)
    weights, moments, steps = two_stream.weights(), two_stream.moments(), two_stream.steps
    two_stream.step(batch, 0.01)
    expected = two_stream.weights()

    two_stream.set_weights(weights)
    two_stream.set_moments(moments, steps)
    two_stream.apply(two_stream.gradient(batch)[0], 0.01)

    assert np.array_equal(two_stream.weights(), expected)
    assert not np.array_equal(expected, weights)


def test_fillers_count_for_nothing(two_stream: Any) -> None:
    batch = batch_of(2)
    gradient, loss = two_stream.gradient(batch)
    other = replace(batch, frames=batch.frames.copy(), truth=batch.truth.copy())
    other.frames[-2:] = 255 - other.frames[-2:]
    other.truth[-2:] = 1

    again, same = two_stream.gradient(other)

    assert same == pytest.approx(loss, rel=1e-6)
    assert again == pytest.approx(gradient, rel=1e-4, abs=1e-7)


def test_a_label_weighs_more_where_it_is_true(two_stream: Any) -> None:
    batch = batch_of(3)
    real = batch.weights > 0
    scores, truth = two_stream.score(batch.frames)[real], batch.truth[real]
    factors = np.linspace(0.5, 3, LABELS, dtype=np.float32)
    two_stream.set_label_weights(factors)
    try:
        _, loss = two_stream.gradient(batch)
    finally:
        two_stream.set_label_weights(np.ones(LABELS, np.float32))

    expected = -np.mean(factors * truth * np.log(scores) + (1 - truth) * np.log(1 - scores))
    assert loss == pytest.approx(expected, rel=1e-4)


def test_a_loss_that_is_not_finite_is_told_and_changes_nothing(two_stream: Any) -> None:
    before = two_stream.weights()
    broken = before.copy()
    broken[-1] = np.inf
    two_stream.set_weights(broken)
    moments = two_stream.moments()

    with pytest.raises(FloatingPointError, match=r"take a learning_rate below 0\.01"):
        two_stream.step(batch_of(4), 0.01)

    assert np.array_equal(two_stream.weights(), broken)
    assert np.array_equal(two_stream.moments(), moments)
    two_stream.set_weights(before)


def test_weights_of_another_model_do_not_fit(two_stream: Any) -> None:
    with pytest.raises(ValueError, match="of another model"):
        two_stream.set_weights(np.zeros(two_stream.size + 1, np.float32))


def test_a_model_of_other_units_is_refused() -> None:
    from shardmill.adapters.keras_models import build_model
    from shardmill.adapters.train_step import TrainStep

    with pytest.raises(ValueError, match="is not the two_stream_bilstm of this spec"):
        TrainStep(build_model(LABELS, SPEC), SPEC.model_copy(update={"rgb_units": 8}), LABELS)


def test_other_models_learn_by_keras(two_stream: Any) -> None:
    step = step_of(SPEC.model_copy(update={"model": "video_level_dense"}))
    random = np.random.default_rng(6)
    means = random.normal(size=(8, FRAME_VALUES)).astype(np.float32)
    truth = (random.random((8, LABELS)) < 0.4).astype(np.float32)
    batch = Batch(means, truth, np.ones(8, np.float32))

    losses = [step.step(batch, 0.01) for _ in range(40)]

    assert losses[-1] < 0.5 * losses[0]
    assert np.asarray(step.model()(means)) == pytest.approx(step.score(means), rel=1e-4)


def test_each_worker_and_each_step_drops_other_units_and_a_step_done_again_the_same(two_stream: Any) -> None:
    spec = SPEC.model_copy(update={"model": "video_level_dense"})
    first, second, resumed = step_of(spec), step_of(spec, rank=1), step_of(spec)
    random = np.random.default_rng(7)
    truth = (random.random((8, LABELS)) < 0.4).astype(np.float32)
    batch = Batch(random.normal(size=(8, FRAME_VALUES)).astype(np.float32), truth, np.ones(8, np.float32))
    weights = first.weights()

    started, elsewhere = first.gradient(batch)[0], second.gradient(batch)[0]
    first.apply(started, 0.01)
    first.set_weights(weights)
    later = first.gradient(batch)[0]
    resumed.set_moments(first.moments(), first.steps)

    assert not np.array_equal(started, elsewhere)
    assert not np.array_equal(started, later)
    assert np.array_equal(later, first.gradient(batch)[0])
    assert np.array_equal(later, resumed.gradient(batch)[0])
