"""What training reads and what training and evaluation publish."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shardmill.specs.training import TrainSpec
from shardmill.specs.value import Sealed, Spec, short_hash


class RecordPart(Spec):
    """One TFRecord file of the lake."""

    uri: str
    sha256: str
    records: int = Field(ge=1)
    """Records in the file."""


class ManifestReference(Spec):
    """A manifest of the lake, as it was."""

    key: str
    sha256: str


class RecordSet(Sealed):
    """The records of a run, stored as ``records.json`` in its folder."""

    level: Literal["frame", "video"] = "frame"
    """A record is a video's frames, one a second, or their mean."""
    vocabulary: tuple[str, ...] = Field(min_length=1)
    """The labels; a record holds indices into it."""
    max_frames: int = Field(ge=1, le=300)
    """Frames of the longest record; 1 where records are at the level of videos."""
    manifests: tuple[ManifestReference, ...] = ()
    """Of the features, one for each shard."""
    train: tuple[RecordPart, ...]
    validation: tuple[RecordPart, ...]

    @property
    def digest(self) -> str:
        """Short hash of all that is above."""
        return short_hash(self.model_dump())


MODEL_VERSION = 2
"""Raised by hand when the same weights would mean something else, or the same spec another model."""


def model_inputs(training: TrainSpec, records: RecordSet) -> str:
    """Give the short hash of what decides a model beside the machines; equal hashes: it need not be trained again."""
    # How often a training is saved, and when a worker counts as lost, decides nothing of its outcome. What `auto` takes
    # is the machine's; without it models from before there was a choice are what they were.
    left_out = {"checkpoint_minutes", "stall_seconds", *(["precision"] if training.precision == "auto" else [])}
    asked = training.model_dump(exclude=left_out)
    return short_hash({"training": asked, "records": records.digest, "model_version": MODEL_VERSION})


class EpochLoss(Spec):
    """How well the model did after an epoch; epoch 0 is before training."""

    epoch: int = Field(ge=0)
    loss: float | None
    """Binary cross-entropy on the training records: while training where the workers report it, else measured after;
    None before training where it was not measured."""
    validation_loss: float | None = None
    """The same, measured on the validation records after the epoch."""
    worker_losses: tuple[float, ...] = ()
    """Each worker's loss while training, where the workers report it."""
    validation_gap: float | None = None
    """Global average precision on the validation records after the epoch, where the trainer measures it."""
    validation_map: float | None = None
    """Mean average precision, likewise."""
    validation_hit_at_1: float | None = None
    """Share of videos whose best label is right, likewise."""
    validation_perr: float | None = None
    """Precision at equal recall rate, likewise."""
    seconds: float | None = None
    """Wall seconds of the epoch's steps, validation left out."""
    examples_per_second: float | None = None
    """Of all workers together in those."""
    learning_rate: float | None = None
    """Of the epoch's last step."""


class Export(Spec):
    """A file beside the weights by which other programs use the model."""

    kind: Literal["keras", "saved_model", "vocabulary"]
    """A `.keras` file; a tar of a TensorFlow SavedModel; the labels as a JSON list, in the order of the scores."""
    key: str
    """Below the run's folder; holds the first 12 digits of the SHA-256."""
    sha256: str
    size: int = Field(ge=1)
    """Bytes."""


class ModelManifest(Sealed):
    """A trained model, stored as ``model/model.json``; with our code it says all that is needed to rebuild it."""

    inputs: str
    """Short hash of what the model was trained with."""
    model_version: int
    training: TrainSpec
    vocabulary: tuple[str, ...]
    records: str
    """Digest of the RecordSet."""
    train_records: int = Field(ge=1)
    label_counts: tuple[int, ...]
    """Training records with each label of the vocabulary."""
    weights: str
    """Key of the .npz with weights and feature means, below the run's folder."""
    weights_sha256: str
    exports: tuple[Export, ...] = ()
    """The same model for other programs."""
    parameters: int = Field(ge=1)
    """Number of weights."""
    trainer: str
    history: tuple[EpochLoss, ...]
    seconds: float
    """Wall seconds of the training itself, without start-up."""
    examples_per_second: float


class LabelScore(Spec):
    """One label's part in the mean average precision."""

    label: str
    average_precision: float
    positives: int
    """Validation videos that have the label; without any the average precision counts as 0."""
    training_positives: int


class MetricsReport(Sealed):
    """The evaluation of a model, stored as ``metrics.json`` in the run's folder."""

    inputs: str
    """The ``inputs`` of the model."""
    videos: int = Field(ge=1)
    """Validation videos."""
    rejected: int = 0
    """Validation records beside them that could not be read."""
    loss: float
    """Binary cross-entropy on the validation records."""
    gap: float
    """Global average precision over each video's 20 best labels."""
    gap_margin: float = 0.0
    """The exact value is at most so far away: above 0 where there were too many distinct scores to keep all apart."""
    map: float
    """Mean over the labels of the average precision."""
    map_margin: float = 0.0
    """The same for it."""
    hit_at_1: float
    """Share of videos whose best label is right."""
    perr: float
    """Precision at equal recall rate."""
    gap_rgb_only: float | None = None
    """GAP with the audio set to its training mean; None where that is not known."""
    gap_audio_only: float | None = None
    """GAP with the picture set to its training mean; None where that is not known."""
    gap_shuffled_frames: float | None = None
    """GAP with each video's frames in random order; None where the model takes no frames."""
    gap_constant: float
    """GAP of the training frequencies of the labels as prediction for every video."""
    labels: tuple[LabelScore, ...]


class VideoPrediction(Spec):
    """What the model says of one validation video."""

    labels: tuple[str, ...]
    """Its true labels."""
    top: tuple[tuple[str, float], ...]
    """The five best labels with their scores."""


class Predictions(Sealed):
    """Predictions for validation videos, stored as ``predictions.json`` in the run's folder."""

    inputs: str
    """The ``inputs`` of the model."""
    videos: int
    """Validation videos; when there are very many, only the first by id are listed."""
    listed: dict[str, VideoPrediction]
