from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from shardmill.adapters.extractors import ExtractorError, check_extractor, make_extractor
from shardmill.core.frame_statistics import VALUES
from shardmill.core.quantise import quantise
from shardmill.specs.recipes import FeatureRecipe, SplitRecipe

FRAMES = np.random.default_rng(1).integers(0, 256, (3, 72, 128, 3), dtype=np.uint8)


def recipe(extractor: str = "frame_statistics", **fields: str) -> FeatureRecipe:
    return FeatureRecipe(split=SplitRecipe(), extractor=extractor, labels="", **fields)


def save_projection(path: Path, **arrays: np.ndarray) -> str:
    np.savez(path, **arrays)
    return f"file://{path}"


def test_frame_statistics_need_nothing_and_are_the_same_every_time():
    values = make_extractor(recipe())(FRAMES)
    assert values.shape == (3, 1024)
    assert np.array_equal(values, make_extractor(recipe())(FRAMES))


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_frame_is_never_what_padding_looks_like(level):
    assert quantise(make_extractor(recipe())(np.full((1, 72, 128, 3), level, np.uint8))).any()


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ExtractorError, match=r"extractor: expected one of frame_statistics, .*InceptionV3.*'no_such'"):
        check_extractor(recipe("no_such"))


def test_a_keras_model_without_weights_is_refused_without_loading_tensorflow():
    code = (
        "import sys; from shardmill.adapters.extractors import *; from shardmill.specs.recipes import SplitRecipe\n"
        "try: make_extractor(FeatureRecipe(split=SplitRecipe(), extractor='InceptionV3', labels=''))\n"
        "except ExtractorError as error: print(error)\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("extractor_weights: InceptionV3 needs the URI of its weights")


def test_weights_that_are_not_there_are_named(tmp_path):
    with pytest.raises(ExtractorError, match=r"extractor_weights: .*none\.weights\.h5 is not there"):
        make_extractor(recipe("MobileNetV2", extractor_weights=f"file://{tmp_path}/none.weights.h5"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    keras = pytest.importorskip("keras")
    path = tmp_path_factory.mktemp("weights") / "mobile.weights.h5"
    keras.utils.set_random_seed(1)
    model = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(224, 224, 3))
    for layer in model.layers:  # random weights fade to nothing unless the normalisation fits them
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(np.random.default_rng(1).uniform(-1, 1, (4, 224, 224, 3)).astype(np.float32), training=True)
    model.save_weights(path)
    return f"file://{path}"


def test_a_keras_model_describes_frames_with_the_weights_given(weights):
    extract = make_extractor(recipe("MobileNetV2", extractor_weights=weights))
    values = extract(FRAMES)
    assert values.shape == (3, 1024)
    assert 0.3 < values.std() < 1.2
    assert np.allclose(values, make_extractor(recipe("MobileNetV2", extractor_weights=weights))(FRAMES), atol=1e-4)


def test_a_keras_model_is_projected_by_the_pca_given(weights, tmp_path):
    uri = save_projection(tmp_path / "pca.npz", components=np.eye(1280, 1024), mean=np.zeros(1280))
    values = make_extractor(recipe("MobileNetV2", extractor_weights=weights, projection=uri))(FRAMES)
    assert values.shape == (3, 1024)
    assert values.min() >= 0  # the pooled activations as they are


def test_weights_of_another_model_are_refused(weights):
    with pytest.raises(ExtractorError, match="holds no weights of MobileNet without its top"):
        make_extractor(recipe("MobileNet", extractor_weights=weights))


def test_bytes_that_are_no_weights_are_refused(tmp_path):
    pytest.importorskip("keras")
    (tmp_path / "x.weights.h5").write_bytes(b"not HDF5")
    with pytest.raises(ExtractorError, match="holds no weights of MobileNetV2"):
        make_extractor(recipe("MobileNetV2", extractor_weights=f"file://{tmp_path}/x.weights.h5"))


def test_the_statistics_are_projected_by_the_pca_given(tmp_path):
    uri = save_projection(tmp_path / "pca.npz", components=np.eye(VALUES, 1024), mean=np.zeros(VALUES))
    values = make_extractor(recipe(projection=uri))(FRAMES)
    assert not values[:, VALUES:].any()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"components": np.eye(3, 1024), "mean": np.zeros(3)}, rf"expected components \[{VALUES}, 1024\]"),
        ({"components": np.eye(3, 1024)}, "not an .npz of 'components' and 'mean'"),
        ({"components": np.array([{}]), "mean": np.zeros(3)}, "not an .npz"),
    ],
)
def test_an_unfit_projection_is_refused_and_nothing_is_unpickled(tmp_path, arrays, message):
    uri = save_projection(tmp_path / "pca.npz", **arrays)
    with pytest.raises(ExtractorError, match=f"projection: .*{message}"):
        make_extractor(recipe(projection=uri))


def test_bytes_that_are_no_projection_are_refused(tmp_path):
    pickled = io.BytesIO()
    np.save(pickled, np.array([{}]), allow_pickle=True)
    (tmp_path / "pca.npz").write_bytes(pickled.getvalue())
    with pytest.raises(ExtractorError, match=r"projection: .*not an \.npz"):
        make_extractor(recipe(projection=f"file://{tmp_path}/pca.npz"))


def test_linear_algebra_takes_one_thread_and_leaves_the_cores_to_those_who_decode():
    with threadpool_limits(2, user_api="blas"):
        make_extractor(recipe())
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}
