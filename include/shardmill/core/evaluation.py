"""Evaluation: what is kept of scored videos, in bounded memory, and the report of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from shardmill.core.ablations import CONSTANT, FULL, constant_scores
from shardmill.core.metric_sums import Metrics, MetricSums
from shardmill.core.metrics import best_labels
from shardmill.specs.record_rejects import RejectTally
from shardmill.specs.records import LabelScore, MetricsReport, ModelManifest, VideoPrediction

MOST_LISTED = 10_000
"""Videos whose predictions are listed, the first by id."""
TOP_LABELS = 5
LISTED, REJECTS = "listed", "rejects"


@dataclass(frozen=True)
class Found:
    """Something that a worker found, ready to cross a wire; what two workers found by one name adds up."""

    name: str
    """`LISTED`, `REJECTS`, or the name of the input that was scored."""
    content: bytes
    """JSON, or metric sums."""

    def __add__(self, other: Found) -> Found:
        if self.name == LISTED:
            return Found(LISTED, _dump(_first(_load(self.content) | _load(other.content))))
        if self.name == REJECTS:
            own, others = (RejectTally.model_validate_json(found.content) for found in (self, other))
            return Found(REJECTS, own.beside(others).model_dump_json().encode())
        sums = MetricSums.from_bytes(self.content) + MetricSums.from_bytes(other.content)
        return Found(self.name, sums.to_bytes())


def _dump(listed: Mapping[str, VideoPrediction]) -> bytes:
    return json.dumps({video: one.model_dump(mode="json") for video, one in listed.items()}).encode()


def _load(content: bytes) -> dict[str, VideoPrediction]:
    return {video: VideoPrediction.model_validate(one) for video, one in json.loads(content).items()}


def _first(listed: Mapping[str, VideoPrediction]) -> dict[str, VideoPrediction]:
    return dict(islice(sorted(listed.items()), MOST_LISTED))


class Evaluation:
    """What is kept of the videos that one worker scores."""

    def __init__(self, manifest: ModelManifest) -> None:
        """Begin with no video."""
        self._manifest = manifest
        self._sums: dict[str, MetricSums] = {}
        self._listed: dict[str, VideoPrediction] = {}

    def add(
        self, ids: Sequence[str], truth: npt.NDArray[np.float32], scores: Mapping[str, npt.NDArray[np.float32]]
    ) -> None:
        """Take in a batch.

        Args:
            truth: [videos, labels] of zeros and ones.
            scores: float32 [videos, labels] by the name of what the model was fed with, `FULL` among them.
        """
        model = self._manifest
        constant = constant_scores(model.label_counts, model.train_records, len(truth))
        for name, table in {**scores, CONSTANT: constant}.items():
            if name not in self._sums:
                self._sums[name] = MetricSums(len(model.vocabulary), by_label=name == FULL)
            self._sums[name].add(table, truth)
        self._listed |= dict(zip(ids, top_predictions(scores[FULL], truth, model.vocabulary), strict=True))
        if len(self._listed) > 2 * MOST_LISTED:
            self._listed = _first(self._listed)

    def found(self, rejects: RejectTally) -> list[Found]:
        """Give all that is kept."""
        return [
            *(Found(name, sums.to_bytes()) for name, sums in self._sums.items()),
            Found(LISTED, _dump(_first(self._listed))),
            Found(REJECTS, rejects.model_dump_json().encode()),
        ]


def top_predictions(
    scores: npt.NDArray[np.float32], truth: npt.NDArray[np.float32], names: Sequence[str], top: int = TOP_LABELS
) -> list[VideoPrediction]:
    """Put the best labels of each video beside its true ones."""
    return [
        VideoPrediction(
            labels=tuple(names[label] for label in np.flatnonzero(real)),
            top=tuple((names[label], round(float(row[label]), 6)) for label in best),
        )
        for row, real, best in zip(scores, truth, best_labels(scores, top), strict=True)
    ]


def metrics_of(found: Mapping[str, bytes]) -> dict[str, Metrics]:
    """Give the metrics by name of what was scored."""
    names = found.keys() - {LISTED, REJECTS}
    return {name: MetricSums.from_bytes(found[name]).finish() for name in sorted(names)}


def listed_of(found: Mapping[str, bytes]) -> dict[str, VideoPrediction]:
    """Give the predictions, the first by id."""
    return _load(found[LISTED])


def report_of(measured: Mapping[str, Metrics], manifest: ModelManifest, rejected: int) -> MetricsReport:
    """Write the report of a model.

    Raises:
        ValueError: no video has a label: nothing can be measured.
    """
    full = measured[FULL]
    if not full.positives.any():
        raise ValueError(
            f"expected labels of the validation records, found none on {full.videos} videos: a split without labels, "
            "as YouTube-8M's `test` is, cannot be evaluated; take `validate`, or `shardmill predict`"
        )
    gaps = {f"gap_{name}": found.gap for name, found in measured.items() if name != FULL}
    by_label = full.label_average_precisions.tolist()
    return MetricsReport(
        inputs=manifest.inputs,
        videos=full.videos,
        rejected=rejected,
        loss=full.loss,
        gap=full.gap,
        gap_margin=full.gap_margin,
        map=float(np.mean(by_label)),
        map_margin=full.map_margin or 0.0,
        hit_at_1=full.hit_at_1,
        perr=full.perr,
        **gaps,
        labels=tuple(
            LabelScore(label=label, average_precision=precision, positives=positives, training_positives=trained)
            for label, precision, positives, trained in zip(
                manifest.vocabulary, by_label, full.positives.tolist(), manifest.label_counts, strict=True
            )
        ),
    )
