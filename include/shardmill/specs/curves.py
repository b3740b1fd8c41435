"""Precision and recall of a model, label by label, over thresholds on the score."""

from __future__ import annotations

from itertools import pairwise
from typing import Self

from pydantic import Field, model_validator

from shardmill.specs.value import Sealed, Spec


class PrecisionRecall(Spec):
    """What calling every video positive whose score is a threshold or above comes to."""

    threshold: float = Field(ge=0, le=1)
    precision: float = Field(ge=0, le=1)
    """Share of those called positive that are."""
    recall: float = Field(ge=0, le=1)
    """Share of the positives that are called so."""

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


class LabelCurve(Spec):
    """A label's precision and recall from the highest threshold to the lowest."""

    label: str
    """Empty for all labels together, whose area is GAP."""
    positives: int = Field(ge=1)
    """Validation videos that have the label; pairs of a video and its label for all together."""
    points: tuple[PrecisionRecall, ...]
    """Thresholds that occurred, where recall rises; of many, a bounded number spread over the recall."""
    best: PrecisionRecall | None
    """The threshold of the highest F1 on the very videos that it is measured on; None where nothing was found."""

    @model_validator(mode="after")
    def _recall_rises(self) -> Self:
        recalls = [point.recall for point in self.points]
        if any(later <= earlier for earlier, later in pairwise(recalls)):
            raise ValueError(f"points: expected recall to rise from point to point, found {recalls}")
        return self


class LabelCurves(Sealed):
    """The curves of a model, stored as ``curves.json`` in the run's folder before its metrics."""

    inputs: str
    """The ``inputs`` of the model."""
    videos: int = Field(ge=1)
    """Validation videos."""
    together: LabelCurve | None
    """All labels in one ranking; None where no video has one."""
    labels: tuple[LabelCurve, ...]
    """Of the labels with the most validation videos, the most first; labels without any have none."""
