"""Models in the lake."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest

from shardmill.adapters import model_store
from shardmill.adapters.store import DamagedObjectError, Store
from shardmill.specs.records import EpochLoss, ModelManifest
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
