"""What the page of a run's report shows: values ready to be written, and how numbers are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shardmill.core.charts import Bar, LineChart
from shardmill.core.report import CostTable, Prediction, RejectGroup, ShardRow, TaskRow
from shardmill.specs.prices import Span
from shardmill.specs.record_rejects import RecordReject


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


@dataclass(frozen=True)
class Shown:
    """A validation video with pictures of its clips, as ``data:`` URIs."""

    prediction: Prediction
    pictures: tuple[str, ...]


ENOUGH_VIDEOS = 30
"""Fewer validation videos than this, and the page warns of reading much into their metrics."""


@dataclass(frozen=True)
class Page:
    """All that the page shows; what is empty or None is unknown, and said to be."""

    run: str
    started: str
    dataset: str
    source: str
    state: str
    """``succeeded``, ``failed`` or ``unfinished``."""
    failed_task: str
    failure: str
    score: float | None
    """GAP over the validation videos."""
    lead: float | None
    """How far the score is above the best of the ablations."""
    counts: tuple[Figure, ...]
    metrics: tuple[Figure, ...]
    ablations: tuple[Bar, ...]
    labels: tuple[LabelRow, ...]
    labels_left_out: int
    """Labels that have fewer validation videos than all of these."""
    curve: LineChart | None
    videos: int | None
    """Validation videos that the score is of."""
    shown: tuple[Shown, ...]
    listed: int
    """Predictions that are known video by video."""
    hits: int
    """Those of them whose best label is right."""
    shards: tuple[ShardRow, ...]
    shards_left_out: int
    rejects: tuple[RejectGroup, ...]
    tasks: tuple[TaskRow, ...]
    costs: CostTable | None
    """What it was planned to cost and what it came to; None where it was not planned."""
    settings: tuple[Section, ...]
    origins: tuple[tuple[str, str], ...]
    record_rejects: tuple[RecordReject, ...] | None = None
    """Of a run on records that were there: files and records that could not be used; None for other runs."""
    enough_videos: int = ENOUGH_VIDEOS


def score_text(value: float | None) -> str:
    """Write a score with three digits; a dash where it is unknown."""
    return "–" if value is None else f"{value:.3f}"


def count_text(value: int | None) -> str:
    """Write a count with thin spaces between thousands."""
    return "–" if value is None else f"{value:,}".replace(",", "\u202f")


def duration_text(seconds: float | None) -> str:
    """Write seconds as people say them."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def size_text(size: int) -> str:
    """Write bytes in a unit that fits."""
    amount, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.3g} {unit}" if unit != "B" else f"{size} B"


def hours_text(value: float | None) -> str:
    """Write hours; a dash where they are unknown."""
    return "–" if value is None else f"{value:.2f}"


def usd_text(value: float | None) -> str:
    """Write USD; a dash where they are unknown, or not counted."""
    return "–" if value is None else f"{value:,.2f}"


def span_text(span: Span | None, write: Callable[[float | None], str]) -> str:
    """Write a least and a most, once where both read the same."""
    if span is None:
        return "–"
    least, most = map(write, span)
    return least if least == most else f"{least} – {most}"
