"""Predict the labels of videos by a run's model: our weights in our code, nothing unpickled. Needs TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from shardmill.adapters.model_store import MANIFEST_KEY, OtherModelError, load_trained
from shardmill.adapters.records import (
    Damage,
    Record,
    RecordError,
    VideoRecord,
    decode_means,
    decode_record,
    mean_record,
    read_entries,
)
from shardmill.adapters.store import MissingObjectError, Store, read_sealed, split_uri
from shardmill.core.evaluation import TOP_LABELS, top_predictions
from shardmill.specs.record_rejects import RecordReject
from shardmill.specs.records import MODEL_VERSION, ModelManifest

if TYPE_CHECKING:
    from shardmill.adapters.keras_models import Level

Item = Record | VideoRecord
Refuse = Callable[[RecordReject], object]
SUFFIX = ".tfrecord"
MOST_FRAMES = 300
"""Of a record, as YouTube-8M has it."""
BATCH = 32


class NoRecordsError(ValueError):
    """There is nothing to predict."""


@dataclass(frozen=True)
class Predicted:
    """What the model says of a video."""

    video: str
    top: tuple[tuple[str, float], ...]
    """The best labels with their scores from 0 to 1, best first."""


@dataclass(frozen=True, eq=False)
class Predictor:
    """A model with its weights."""

    manifest: ModelManifest
    model: Any
    """A Keras model."""
    level: Level

    def predict(self, records: Iterable[Item], top: int = TOP_LABELS) -> Iterator[Predicted]:
        """Give the best labels of each record, in order; records of frames do for a model of videos too.

        Raises:
            RecordError: a record has no frame, or more than a model takes.
        """
        from shardmill.adapters.keras_models import score
        from shardmill.adapters.record_batches import BatchPlan, default_buckets
        from shardmill.adapters.record_batches.batch import assemble

        plan, lengths = BatchPlan(BATCH, None, MOST_FRAMES, self.level), default_buckets(MOST_FRAMES)
        remaining = iter(records)
        while items := [_fitting(record, self.level) for record in islice(remaining, BATCH)]:
            longest = max(len(item.rgb) if isinstance(item, Record) else 1 for item in items)
            batch = assemble(items, next(length for length in lengths if length >= longest), plan)
            scores = score(self.model, batch.frames, BATCH)[: len(items)]
            said = top_predictions(scores, np.zeros_like(scores), self.manifest.vocabulary, top)
            yield from (Predicted(item.id, one.top) for item, one in zip(items, said, strict=True))


def _fitting(item: Item, level: Level) -> Item:
    if level == "video":
        return mean_record(item) if isinstance(item, Record) else item
    if isinstance(item, VideoRecord) or not 1 <= len(item.rgb) <= MOST_FRAMES:
        found = "none" if isinstance(item, VideoRecord) else len(item.rgb)
        raise RecordError(f"{item.id!r}: expected 1 to {MOST_FRAMES} frames, found {found}")
    return item


def load_predictor(run: Store) -> Predictor:
    """Load the model of a run, its hash checked.

    Args:
        run: the run's folder.

    Raises:
        MissingObjectError: the run has no model.
        OtherModelError: our code builds another model of its spec by now.
        DamagedObjectError: its weights are not those of the manifest.
    """
    from shardmill.adapters.keras_models import build_model, model_level, set_named_weights

    try:
        manifest = read_sealed(run, MANIFEST_KEY, ModelManifest)
    except MissingObjectError as error:
        raise MissingObjectError(
            f"{run.uri_of(MANIFEST_KEY)} is not there: name the folder of a trained run"
        ) from error
    if manifest.model_version != MODEL_VERSION:
        raise OtherModelError(
            f"{run.uri_of(MANIFEST_KEY)} is of model version {manifest.model_version}, this program builds version "
            f"{MODEL_VERSION}: predict by the program that trained it or by its exports, or train again"
        )
    model = build_model(len(manifest.vocabulary), manifest.training)
    set_named_weights(model, load_trained(run, manifest).weights)
    return Predictor(manifest, model, model_level(model))


def find_files(uri: str) -> list[str]:
    """Give the URIs of a TFRecord file, or of those directly in a folder. Raises NoRecordsError where there is none."""
    if uri.endswith(SUFFIX):
        return [uri]
    folder = Store(uri)
    if found := [folder.uri_of(item.key) for item in folder.files() if item.key.endswith(SUFFIX)]:
        return found
    raise NoRecordsError(f"expected a {SUFFIX} file, a folder that holds some, or a video, found none at {uri}")


def read_file(uri: str, level: Level, refuse: Refuse) -> Iterator[Item]:
    """Yield the records of a TFRecord file as a model of that level takes them, read in chunks.

    Args:
        refuse: gets each place that cannot be used; its records are left out.
    """
    decode = decode_means if level == "video" else decode_record
    folder, name = split_uri(uri)
    for entry in read_entries(Store(folder).stream(name)):
        if isinstance(entry, Damage):
            refuse(RecordReject(file=uri, offset=entry.offset, reason=entry.reason))
            continue
        try:
            yield _fitting(decode(entry.payload), level)
        except RecordError as error:
            refuse(RecordReject(file=uri, offset=entry.offset, reason=str(error)))
