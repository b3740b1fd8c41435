"""The models, in Keras: ours and a user's own."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from shardmill.core.frames import FRAME_VALUES, RGB_VALUES
from shardmill.core.spark_settings import weight_bytes
from shardmill.specs.training import OUR_MODELS, TrainSpec

SPEC = TrainSpec(rgb_units=3, audio_units=2, dense_units=4, seed=5)


@pytest.fixture(scope="module")
def keras_models() -> ModuleType:
    """The adapter; importing it imports tensorflow, which is too slow for the collection of tests."""
    from shardmill.adapters import keras_models

    return keras_models


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (3, 4, FRAME_VALUES), np.uint8)


@pytest.fixture(scope="module")
def model(keras_models: ModuleType) -> Any:
    return keras_models.build_model(6, SPEC)


def scores_of(model: Any, frames: np.ndarray) -> np.ndarray:
    from shardmill.adapters.keras_models import score

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
    keras_models: ModuleType, model: Any
) -> None:
    again = keras_models.named_weights(keras_models.build_model(6, SPEC))
    first = keras_models.named_weights(model)
    assert first.keys() == again.keys()
    assert all((first[name] == again[name]).all() for name in first)
    other = keras_models.named_weights(keras_models.build_model(6, SPEC.model_copy(update={"seed": 6})))
    assert any((first[name] != other[name]).any() for name in first)


def test_weights_of_another_model_are_refused(keras_models: ModuleType, model: Any) -> None:
    arrays = keras_models.named_weights(keras_models.build_model(7, SPEC))
    with pytest.raises(ValueError, match="do not fit"):
        keras_models.set_named_weights(model, arrays)


def test_a_published_models_weights_keep_their_names(keras_models: ModuleType, model: Any) -> None:
    directions = [f"{index:02d}.rgb" for index in range(6)] + [f"{index:02d}.audio" for index in range(6, 12)]
    assert keras_models.weight_names(model) == [*directions, "12.dense", "13.dense", "14.labels", "15.labels"]


def test_flat_weights_are_all_of_them_in_order_and_come_back(keras_models: ModuleType, model: Any) -> None:
    flat = keras_models.flat_weights(model)
    assert np.array_equal(flat, np.concatenate([weight.ravel() for weight in model.get_weights()]))
    keras_models.set_flat_weights(model, flat[::-1].copy())
    assert np.array_equal(keras_models.flat_weights(model), flat[::-1])
    keras_models.set_flat_weights(model, flat)
    with pytest.raises(ValueError, match="of another model"):
        keras_models.set_flat_weights(model, flat[1:])


@pytest.mark.parametrize("name", ["two_stream_bilstm", "rgb_bilstm", "video_level_dense"])
def test_every_model_scores_its_level_of_records_and_its_size_is_reckoned(
    keras_models: ModuleType, name: str, frames: np.ndarray
) -> None:
    spec = SPEC.model_copy(update={"model": name})
    model = keras_models.build_model(6, spec)
    level = keras_models.MODELS[name].level
    inputs = frames if level == "frame" else frames[:, 0].astype(np.float32)
    assert keras_models.model_level(model) == level
    assert keras_models.score(model, inputs, 4).shape == (3, 6)
    assert weight_bytes(spec, 6) == 4 * model.count_params()


def test_the_rgb_model_does_not_hear(keras_models: ModuleType, frames: np.ndarray) -> None:
    model = keras_models.build_model(6, SPEC.model_copy(update={"model": "rgb_bilstm"}))
    changed = frames.copy()
    changed[..., RGB_VALUES:] = 255 - changed[..., RGB_VALUES:]
    assert np.array_equal(scores_of(model, changed), scores_of(model, frames))


OWN = """
import keras

def ours(labels, spec):
    frames = keras.Input((None, 1152), dtype="uint8")
    mean = keras.layers.GlobalAveragePooling1D()(keras.layers.Rescaling(1 / 255)(frames))
    return keras.Model(frames, keras.layers.Dense(labels, activation="sigmoid")(mean))

def too_many(labels, spec):
    return ours(labels + 1, spec)

def other_input(labels, spec):
    frames = keras.Input((None, 1024), dtype="uint8")
    mean = keras.layers.GlobalAveragePooling1D()(keras.layers.Rescaling(1 / 255)(frames))
    return keras.Model(frames, keras.layers.Dense(labels, activation="sigmoid")(mean))

def nothing(labels, spec):
    return None

number = 3
"""


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_models_of_a_test.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_spec_knows_the_names_of_the_models(keras_models: ModuleType) -> None:
    assert tuple(keras_models.MODELS) == OUR_MODELS
    with pytest.raises(ValueError, match="expected one of two_stream_bilstm"):
        TrainSpec(model="two_streams")


@pytest.mark.usefixtures("own_package")
def test_a_users_own_model_is_imported_by_its_path(keras_models: ModuleType, frames: np.ndarray) -> None:
    spec = SPEC.model_copy(update={"model": "own_models_of_a_test:ours"})
    model = keras_models.build_model(6, spec)
    assert keras_models.model_level(model) == "frame"
    assert scores_of(model, frames).shape == (3, 6)
    again = keras_models.build_model(6, spec)
    assert np.array_equal(keras_models.flat_weights(model), keras_models.flat_weights(again))


@pytest.mark.usefixtures("own_package")
@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("two_streams", "expected one of two_stream_bilstm, rgb_bilstm, video_level_dense, or package"),
        ("no_such_package_of_a_test:ours", "No module named 'no_such_package_of_a_test': install its package"),
        ("own_models_of_a_test:missing", "has no attribute 'missing'"),
        ("own_models_of_a_test:number", "expected a function at own_models_of_a_test:number, found int"),
        ("own_models_of_a_test:nothing", "gives a keras.Model, found NoneType"),
        ("own_models_of_a_test:too_many", r"expected float32 \[videos, 6\] out of .*, found float32 \[None, 7\]"),
        ("own_models_of_a_test:other_input", r"found uint8 \[None, None, 1024\]"),
    ],
)
def test_what_is_no_model_is_told_with_the_field(keras_models: ModuleType, path: str, told: str) -> None:
    with pytest.raises(keras_models.ModelError, match=rf"^model: .*{told}"):
        keras_models.build_model(6, SPEC.model_copy(update={"model": path}))
