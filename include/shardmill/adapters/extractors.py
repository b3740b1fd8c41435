"""Frame extractors by name: each turns the frames of a video into 1024 values a frame."""

from __future__ import annotations

import importlib
import io
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from shardmill.adapters.scratch import scratch_folder
from shardmill.adapters.store import MissingObjectError, StoreSettings, read_uri
from shardmill.core import frame_statistics
from shardmill.core.projection import Projection, ProjectionError, given_projection, seeded_projection
from shardmill.specs.recipes import FeatureRecipe

Describe = Callable[[np.ndarray], np.ndarray]
"""uint8 [frames, height, width, 3] to float32 [frames, values]."""

BATCH_FRAMES = 32
STATISTICS_GAIN = 1.8
"""Spreads the projected statistics over the steps of the quantisation; fewer than one value in a hundred is clipped."""
UNIT_GAIN = 0.7
"""The same for descriptions whose mean square is 1."""
_WEIGHTS_SUFFIXES = (".weights.h5", ".h5")

KERAS_MODELS: dict[str, tuple[str, int]] = {
    "DenseNet121": ("densenet", 224),
    "DenseNet169": ("densenet", 224),
    "DenseNet201": ("densenet", 224),
    "EfficientNetB0": ("efficientnet", 224),
    "EfficientNetV2B0": ("efficientnet_v2", 224),
    "InceptionResNetV2": ("inception_resnet_v2", 299),
    "InceptionV3": ("inception_v3", 299),
    "MobileNet": ("mobilenet", 224),
    "MobileNetV2": ("mobilenet_v2", 224),
    "MobileNetV3Large": ("mobilenet_v3", 224),
    "MobileNetV3Small": ("mobilenet_v3", 224),
    "ResNet50": ("resnet", 224),
    "ResNet50V2": ("resnet_v2", 224),
    "ResNet101": ("resnet", 224),
    "VGG16": ("vgg16", 224),
    "VGG19": ("vgg19", 224),
    "Xception": ("xception", 299),
}
"""Module of ``keras.applications`` that has the model's preprocessing, and the side of its square input in pixels."""


class ExtractorError(ValueError):
    """An extractor cannot be made as asked; names the field and says what to do."""


def _read(field: str, uri: str, settings: StoreSettings | None) -> bytes:
    try:
        return read_uri(uri, settings)
    except MissingObjectError as error:
        raise ExtractorError(f"{field}: {error}") from error


def _statistics(recipe: FeatureRecipe, settings: StoreSettings | None) -> tuple[Describe, int, float]:
    return frame_statistics.describe_frames, frame_statistics.VALUES, STATISTICS_GAIN


def _keras(recipe: FeatureRecipe, settings: StoreSettings | None) -> tuple[Describe, int, float]:
    """Make a ``keras.applications`` model without its top, its weights from the recipe's URI, never downloaded."""
    _check_weights_named(recipe)
    content = _read("extractor_weights", recipe.extractor_weights, settings)
    import tensorflow as tf  # seconds of start-up, and only this extractor needs it

    module_name, side = KERAS_MODELS[recipe.extractor]
    preprocess = importlib.import_module(f"keras.applications.{module_name}").preprocess_input
    model = getattr(tf.keras.applications, recipe.extractor)(
        weights=None, include_top=False, pooling="avg", input_shape=(side, side, 3)
    )
    _load_weights(model, content, recipe)

    def describe(frames: np.ndarray) -> np.ndarray:
        batches = [frames[start : start + BATCH_FRAMES] for start in range(0, len(frames), BATCH_FRAMES)]
        pooled = [
            model(preprocess(tf.image.resize(batch, (side, side), antialias=True)), training=False).numpy()
            for batch in batches
        ]
        return _unit_mean_square(np.concatenate(pooled)) if not recipe.projection else np.concatenate(pooled)

    return describe, int(model.output_shape[-1]), UNIT_GAIN


def _unit_mean_square(values: np.ndarray) -> np.ndarray:
    return values / np.sqrt(np.mean(values**2, axis=1, keepdims=True) + 1e-12)


def _check_weights_named(recipe: FeatureRecipe) -> None:
    if not recipe.extractor_weights:
        raise ExtractorError(
            f"extractor_weights: {recipe.extractor} needs the URI of its weights "
            f"(*.weights.h5, saved without the top); nothing is downloaded. `frame_statistics` needs none"
        )
    if not recipe.extractor_weights.endswith(_WEIGHTS_SUFFIXES):
        raise ExtractorError(f"extractor_weights: expected *.weights.h5 or *.h5, found {recipe.extractor_weights}")


def _load_weights(model: Any, content: bytes, recipe: FeatureRecipe) -> None:
    suffix = next(suffix for suffix in _WEIGHTS_SUFFIXES if recipe.extractor_weights.endswith(suffix))
    with scratch_folder("weights-") as folder:
        path = folder / f"model{suffix}"
        path.write_bytes(content)
        try:
            # Keras only warns of layers that the file lacks, and leaves them random.
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)
                model.load_weights(path)
        except (ValueError, OSError, KeyError, UserWarning) as error:
            raise ExtractorError(
                f"extractor_weights: {recipe.extractor_weights} holds no weights of {recipe.extractor} "
                f"without its top: {str(error)[:300]}"
            ) from error


Factory = Callable[[FeatureRecipe, StoreSettings | None], tuple[Describe, int, float]]
"""Makes the description of frames, tells how many values it has, and the gain of a random projection of it."""
EXTRACTORS: dict[str, Factory] = {"frame_statistics": _statistics, **dict.fromkeys(KERAS_MODELS, _keras)}


def check_extractor(recipe: FeatureRecipe) -> None:
    """Refuse an extractor that does not exist or lacks its weights, before any work and without its libraries.

    Raises:
        ExtractorError: names the field.
    """
    if recipe.extractor not in EXTRACTORS:
        raise ExtractorError(f"extractor: expected one of {', '.join(EXTRACTORS)}, found {recipe.extractor!r}")
    if recipe.extractor in KERAS_MODELS:
        _check_weights_named(recipe)


def make_extractor(recipe: FeatureRecipe, settings: StoreSettings | None = None) -> Describe:
    """Make the extractor that a recipe names, projected to 1024 values.

    From now on this process' linear algebra runs on one thread: its results do not depend on the machine's cores then,
    and OpenBLAS' threads, which spin while they wait, take nothing from those that cut or decode meanwhile.

    Raises:
        ExtractorError: an unknown name, missing or unfit weights, a missing or unfit projection.
    """
    check_extractor(recipe)
    threadpool_limits(1, user_api="blas")
    describe, values, gain = EXTRACTORS[recipe.extractor](recipe, settings)
    project = _projection(recipe, values, gain, settings)
    return lambda frames: project(describe(frames))


def _projection(recipe: FeatureRecipe, values: int, gain: float, settings: StoreSettings | None) -> Projection:
    if not recipe.projection:
        return seeded_projection(values, recipe.projection_seed, gain)
    content = _read("projection", recipe.projection, settings)
    try:
        # Nothing read from a bucket is unpickled: an object array in the file is refused by numpy.
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return given_projection(arrays["components"], arrays["mean"], values)
    except (KeyError, ValueError, TypeError, OSError, zipfile.BadZipFile) as error:
        reason = (
            str(error) if isinstance(error, ProjectionError) else f"not an .npz of 'components' and 'mean': {error}"
        )
        raise ExtractorError(f"projection: {recipe.projection}: {reason}") from error
