"""Models in the lake."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from unpacking import unpack_tar

from shardmill.adapters import model_store
from shardmill.adapters.store import DamagedObjectError, Store
from shardmill.core.frames import FRAME_VALUES
from shardmill.specs.records import EpochLoss, Export, ModelManifest
from shardmill.specs.training import TrainSpec

ARRAYS = {"00.rgb": np.arange(6, dtype=np.float32).reshape(2, 3), "mean.rgb": np.zeros(4, np.uint8)}


def manifest_of(weights: tuple[str, str], inputs: str = "abc", seconds: float = 1.0) -> ModelManifest:
    return ModelManifest(
        inputs=inputs,
        model_version=1,
        training=TrainSpec(),
        vocabulary=("cat",),
        records="def",
        train_records=3,
        label_counts=(2,),
        weights=weights[0],
        weights_sha256=weights[1],
        parameters=6,
        trainer="by hand",
        history=(EpochLoss(epoch=0, loss=0.7),),
        seconds=seconds,
        examples_per_second=3.0,
    )


def test_a_published_model_comes_back(lake: Store) -> None:
    assert model_store.find_model(lake, "abc") is None
    published = model_store.publish_model(lake, manifest_of(model_store.put_weights(lake, ARRAYS)))
    assert model_store.find_model(lake, "abc") == published
    loaded = model_store.load_weights(lake, published)
    assert loaded.keys() == ARRAYS.keys()
    assert all((loaded[name] == ARRAYS[name]).all() and loaded[name].dtype == ARRAYS[name].dtype for name in ARRAYS)


def test_equal_weights_have_one_name(lake: Store) -> None:
    assert model_store.put_weights(lake, ARRAYS) == model_store.put_weights(lake, dict(ARRAYS))


def test_the_first_of_two_tries_wins(lake: Store) -> None:
    weights = model_store.put_weights(lake, ARRAYS)
    first = model_store.publish_model(lake, manifest_of(weights, seconds=1.0))
    assert model_store.publish_model(lake, manifest_of(weights, seconds=2.0)) == first


def test_a_model_of_other_inputs_is_never_taken_for_this_one(lake: Store) -> None:
    weights = model_store.put_weights(lake, ARRAYS)
    model_store.publish_model(lake, manifest_of(weights))
    with pytest.raises(model_store.OtherModelError, match="expected xyz, found abc"):
        model_store.find_model(lake, "xyz")
    with pytest.raises(model_store.OtherModelError):
        model_store.publish_model(lake, manifest_of(weights, inputs="xyz"))


def test_damaged_weights_are_refused(lake: Store) -> None:
    manifest = manifest_of(model_store.put_weights(lake, ARRAYS))
    content = bytearray(lake.get(manifest.weights))
    content[-30] ^= 1
    lake.put(manifest.weights, bytes(content))
    with pytest.raises(DamagedObjectError, match="is damaged"):
        model_store.load_weights(lake, manifest)


def test_a_manifest_with_a_flipped_byte_is_never_taken_for_the_model(lake: Store) -> None:
    model_store.publish_model(lake, manifest_of(model_store.put_weights(lake, ARRAYS)))
    whole = lake.get(model_store.MANIFEST_KEY)
    damaged = whole.replace(b'"parameters":6', b'"parameters":7')
    assert damaged != whole
    lake.put(model_store.MANIFEST_KEY, damaged)
    with pytest.raises(DamagedObjectError, match=r"model/model\.json: the sha256 of this ModelManifest"):
        model_store.find_model(lake, "abc")


def test_nothing_is_pickled_on_either_way(lake: Store) -> None:
    with pytest.raises(ValueError, match="plain numbers"):
        model_store.put_weights(lake, {"code": np.array([print], dtype=object)})
    hostile = io.BytesIO()
    np.savez(hostile, code=np.array([print], dtype=object))
    lake.put("model/hostile.npz", hostile.getvalue())
    manifest = manifest_of(("model/hostile.npz", hashlib.sha256(hostile.getvalue()).hexdigest()))
    with pytest.raises(ValueError, match="allow_pickle"):
        model_store.load_weights(lake, manifest)


# The model for other programs ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_model() -> Any:
    """The default model, small; importing it imports tensorflow, which is too slow for the collection of tests."""
    from shardmill.adapters.keras_models import build_model

    return build_model(3, TrainSpec(rgb_units=3, audio_units=2, dense_units=4, seed=5))


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    frames = np.random.default_rng(0).integers(1, 256, (2, 5, FRAME_VALUES), np.uint8)
    frames[1, 3:] = 0
    return frames


LABELS = ("cat", "dog", "größer")


@pytest.fixture(scope="module")
def exported(small_model: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, Export]]:
    from shardmill.adapters.model_export import export_model

    store = Store(tmp_path_factory.mktemp("run").as_uri())
    return store, {export.kind: export for export in export_model(store, small_model, LABELS)}


def fetched(exported: tuple[Store, dict[str, Export]], kind: str, folder: Path) -> Path:
    store, exports = exported
    content = store.get(exports[kind].key)
    path = folder / Path(exports[kind].key).name
    path.write_bytes(content)
    return path


def test_each_export_is_named_by_its_content(exported: tuple[Store, dict[str, Export]]) -> None:
    store, exports = exported
    assert set(exports) == {"keras", "saved_model", "vocabulary"}
    for export in exports.values():
        content = store.get(export.key)
        assert (len(content), hashlib.sha256(content).hexdigest()) == (export.size, export.sha256)
        assert export.sha256[:12] in export.key
    assert json.loads(store.get(exports["vocabulary"].key)) == list(LABELS)


def test_the_keras_file_scores_as_the_model_without_our_code(
    exported: tuple[Store, dict[str, Export]], small_model: Any, frames: np.ndarray, tmp_path: Path
) -> None:
    import keras

    loaded = keras.models.load_model(fetched(exported, "keras", tmp_path), safe_mode=True)
    expected = small_model.predict_on_batch(frames)
    assert loaded.predict_on_batch(frames) == pytest.approx(expected, abs=1e-6)


def test_the_saved_model_scores_as_the_model_videos_of_any_length(
    exported: tuple[Store, dict[str, Export]], small_model: Any, frames: np.ndarray, tmp_path: Path
) -> None:
    import tensorflow

    unpack_tar(fetched(exported, "saved_model", tmp_path), tmp_path)
    loaded = tensorflow.saved_model.load(tmp_path / "saved_model")
    for some in (frames, frames[:1, :4]):
        expected = small_model.predict_on_batch(some)
        assert np.asarray(loaded.serve(tensorflow.constant(some))) == pytest.approx(expected, abs=1e-6)


def test_a_model_that_cannot_be_written_fails_the_export(lake: Store) -> None:
    import keras

    from shardmill.adapters.model_export import export_model

    class Secretive(keras.layers.Layer):
        def __init__(self, factor: object) -> None:
            super().__init__()
            self.factor = factor

        def call(self, values: Any) -> Any:
            return values * self.factor(values)

    values = keras.Input((FRAME_VALUES,))
    model = keras.Model(values, keras.layers.Dense(1)(Secretive(lambda values: 2.0)(values)))
    with pytest.raises(NotImplementedError) as failed:
        export_model(lake, model, ("cat",))
    assert "cannot be exported (as keras)" in failed.value.__notes__[0]
    assert not list(lake.list("model"))


def test_labels_that_do_not_fit_the_model_are_refused(small_model: Any, lake: Store) -> None:
    from shardmill.adapters.model_export import export_model

    with pytest.raises(ValueError, match="each of 3 scores, found 2"):
        export_model(lake, small_model, ("cat", "dog"))


def test_a_manifest_lists_the_exports_and_an_older_one_has_none(lake: Store) -> None:
    export = Export(kind="keras", key="model/model-0.keras", sha256="0", size=1)
    manifest = manifest_of(model_store.put_weights(lake, ARRAYS)).model_copy(update={"exports": (export,)})
    assert model_store.publish_model(lake, manifest) == model_store.find_model(lake, "abc") == manifest
    older = {name: value for name, value in json.loads(manifest.to_json()).items() if name not in ("exports", "sha256")}
    assert ModelManifest.from_json(json.dumps(older).encode()).exports == ()
