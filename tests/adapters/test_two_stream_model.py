"""The model itself, in Keras."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from shardmill.core.frames import FRAME_VALUES, RGB_VALUES
from shardmill.specs.training import TrainSpec

SPEC = TrainSpec(rgb_units=3, audio_units=2, dense_units=4, seed=5)


@pytest.fixture(scope="module")
def two_stream_model() -> ModuleType:
    """The adapter; importing it imports tensorflow, which is too slow for the collection of tests."""
    from shardmill.adapters import two_stream_model

    return two_stream_model


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (3, 4, FRAME_VALUES), np.uint8)


@pytest.fixture(scope="module")
def model(two_stream_model: ModuleType) -> Any:
    return two_stream_model.build_model(6, SPEC)


def scores_of(model: Any, frames: np.ndarray) -> np.ndarray:
    from shardmill.adapters.two_stream_model import score

    return score(model, frames, 4)


def test_scores_are_probabilities_of_each_label(model: Any, frames: np.ndarray) -> None:
    scores = scores_of(model, frames)
    assert scores.shape == (3, 6)
    assert ((scores > 0) & (scores < 1)).all()


def test_padding_changes_nothing(model: Any, frames: np.ndarray) -> None:
    padded = np.concatenate([frames, np.zeros((3, 5, FRAME_VALUES), np.uint8)], axis=1)
    assert scores_of(model, padded) == pytest.approx(scores_of(model, frames), abs=1e-6)


@pytest.mark.parametrize("columns", [slice(0, RGB_VALUES), slice(RGB_VALUES, None)], ids=["rgb", "audio"])
def test_each_stream_counts_and_so_does_its_order(model: Any, frames: np.ndarray, columns: slice) -> None:
    changed, turned = frames.copy(), frames.copy()
    changed[..., columns] = 255 - changed[..., columns]
    turned[..., columns] = frames[:, ::-1, columns]
    for other in (changed, turned):
        assert np.abs(scores_of(model, other) - scores_of(model, frames)).max() > 1e-4


def test_the_model_survives_its_json_as_elephas_rebuilds_it(model: Any, frames: np.ndarray) -> None:
    from tensorflow.keras.models import model_from_json

    rebuilt = model_from_json(model.to_json())
    rebuilt.set_weights(model.get_weights())
    assert scores_of(rebuilt, frames) == pytest.approx(scores_of(model, frames), abs=1e-6)


def test_the_seed_decides_the_weights_and_names_do_not_depend_on_earlier_models(
    two_stream_model: ModuleType, model: Any
) -> None:
    again = two_stream_model.named_weights(two_stream_model.build_model(6, SPEC))
    first = two_stream_model.named_weights(model)
    assert first.keys() == again.keys()
    assert all((first[name] == again[name]).all() for name in first)
    other = two_stream_model.named_weights(two_stream_model.build_model(6, SPEC.model_copy(update={"seed": 6})))
    assert any((first[name] != other[name]).any() for name in first)


def test_weights_of_another_model_are_refused(two_stream_model: ModuleType, model: Any) -> None:
    arrays = two_stream_model.named_weights(two_stream_model.build_model(7, SPEC))
    with pytest.raises(ValueError, match="do not fit"):
        two_stream_model.set_named_weights(model, arrays)
