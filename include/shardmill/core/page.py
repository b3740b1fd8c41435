"""What the page of a run's report shows: values ready to be written."""

from __future__ import annotations

from dataclasses import dataclass

from shardmill.core.charts import Bar, LineChart, Point
from shardmill.core.cost_rows import CostTable
from shardmill.core.report import Prediction, RejectGroup, ShardRow, TaskRow
from shardmill.core.report_counts import FlowStep
from shardmill.core.run_changes import Changes
from shardmill.specs.curves import PrecisionRecall
from shardmill.specs.prices import Span
from shardmill.specs.record_rejects import RecordReject
from shardmill.specs.records import EpochLoss


@dataclass(frozen=True)
class Figure:
    """A number that stands out, and what it means."""

    name: str
    text: str
    meaning: str = ""


@dataclass(frozen=True)
class Setting:
    """A field of the spec as it was asked."""

    name: str
    value: str
    meaning: str
    changed: bool
    """Whether it differs from the default."""


@dataclass(frozen=True)
class Section:
    """Settings that belong together."""

    name: str
    settings: tuple[Setting, ...]


@dataclass(frozen=True)
class LabelRow:
    """How well one label is found."""

    label: str
    precision: float | None
    """Average precision; None where no validation video has the label."""
    positives: int
    """Validation videos that have it."""
    training_positives: int
    best: PrecisionRecall | None = None
    """At the threshold of the highest F1; None where that is not known."""


@dataclass(frozen=True)
class CurveRow:
    """A precision–recall curve in a square of ``page_model.CURVE_SIZE``, as SVG ``points``."""

    name: str
    points: str
    """Empty where nothing was found."""
    best: Point | None
    """Where the highest F1 lies in the square."""
    area: float | None
    """Average precision, or GAP of all labels together."""
    positives: int


@dataclass(frozen=True)
class Chart:
    """A line chart and what it shows."""

    title: str
    meaning: str
    lines: LineChart


@dataclass(frozen=True)
class Shown:
    """A validation video with a clip of it that plays, and a picture to stand there until it does: ``data:`` URIs."""

    prediction: Prediction
    clip: str = ""
    """Empty where none could be read, or made small enough."""
    picture: str = ""


@dataclass(frozen=True)
class ShownGroup:
    """Videos that are shown together, and why these."""

    name: str
    meaning: str
    videos: tuple[Shown, ...]


ENOUGH_VIDEOS = 30
"""Fewer validation videos than this, and the page warns of reading much into their metrics."""


@dataclass(frozen=True)
class Page:
    """All that the page shows; what is empty or None is unknown, and said to be."""

    run: str
    started: str
    dataset: str
    source: str
    pipeline: str
    state: str
    """``succeeded``, ``failed``, ``planned`` or ``unfinished``."""
    failed_task: str
    failure: str
    score: float | None
    """GAP over the validation videos."""
    lead: float | None
    """How far the score is above the best of the ablations."""
    took: float | None
    """Wall seconds from the run's start to its report."""
    usd: float | None
    """Of its clusters, counted."""
    planned_usd: Span | None
    """Of its clusters and the rest, expected at least and at most; None where nothing has a price."""
    unpriced: bool
    """Whether something has no price, and so is in neither of these."""
    counts: tuple[Figure, ...]
    metrics: tuple[Figure, ...]
    ablations: tuple[Bar, ...]
    labels: tuple[LabelRow, ...]
    labels_left_out: int
    """Labels that have fewer validation videos than all of these."""
    curves: tuple[CurveRow, ...]
    charts: tuple[Chart, ...]
    epochs: tuple[EpochLoss, ...]
    videos: int | None
    """Validation videos that the score is of."""
    groups: tuple[ShownGroup, ...]
    listed: int
    """Predictions that are known video by video."""
    hits: int
    """Those of them whose best label is right."""
    notes: tuple[str, ...]
    """What the plan found, and which shards are not fresh afterwards."""
    flow: tuple[FlowStep, ...]
    shards: tuple[ShardRow, ...]
    no_shards: str
    """Why there are none: the run had nothing to do; empty where it did not come so far."""
    done: tuple[int, int] | None
    """Of a run that makes records only: shards that were due and have records, and those that were due."""
    shards_left_out: int
    odd_left_out: int
    """Those of them that somebody should look at."""
    rejects: tuple[RejectGroup, ...]
    tasks: tuple[TaskRow, ...]
    costs: CostTable | None
    """What was planned and what it came to; None where nothing was."""
    changes: Changes | None
    """Since the run before; None where there was none."""
    settings: tuple[Section, ...]
    origins: tuple[tuple[str, str], ...]
    record_rejects: tuple[RecordReject, ...] | None = None
    """Of a run on records that were there: files and records that could not be used; None for other runs."""
    enough_videos: int = ENOUGH_VIDEOS

    @property
    def asked_otherwise(self) -> tuple[Setting, ...]:
        """The settings that differ from their defaults."""
        return tuple(setting for section in self.settings for setting in section.settings if setting.changed)
