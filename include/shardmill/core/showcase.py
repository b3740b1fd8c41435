"""Choose the videos that a report shows: the best, the worst, and some that nobody picked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from shardmill.core.report import Prediction

EACH = 6
"""Videos of a group."""


@dataclass(frozen=True)
class Group:
    """Videos that are shown together."""

    name: str
    meaning: str
    predictions: tuple[Prediction, ...]


def choose_groups(predictions: Sequence[Prediction], each: int = EACH) -> tuple[Group, ...]:
    """Choose the worst, the best and some of the others; no video twice, a group without any is left out.

    A page of the best and the worst alone would say nothing of the usual: the others are drawn by a hash of their id.
    """
    ranked = sorted(predictions, key=lambda one: (one.separation, _lot(one.video)))
    count = min(each, (len(ranked) + 1) // 2)
    worst, rest = ranked[:count], ranked[count:]
    count = min(each, len(rest))
    best, others = list(reversed(rest))[:count], rest[: len(rest) - count]
    drawn = sorted(others, key=lambda one: _lot(one.video))[:each]
    groups = (
        Group("Worst", "another label outranks one of theirs the furthest, or comes the nearest to it", tuple(worst)),
        Group("Best", "all of their labels are the furthest above every other", tuple(best)),
        Group("Others", "drawn by lot from the rest, to show what is usual", tuple(drawn)),
    )
    return tuple(group for group in groups if group.predictions)


def _lot(video: str) -> str:
    return hashlib.sha256(video.encode("utf-8", "surrogatepass")).hexdigest()
