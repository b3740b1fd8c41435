"""Which frames of a video belong to which clip: exact, in whole ticks of the video's time base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby, pairwise

MOST_SPANS = 100_000
"""A video that goes on for longer is refused: two days of clips of two seconds."""
# How long a video's only frame lasts when nothing else says so.
_LONE_FRAME_SECONDS = Fraction(1, 25)


@dataclass(frozen=True)
class ClipPlan:
    """One clip: the frames of one span of the grid."""

    number: int
    """k of the span [k, k+1) × clip_seconds, counted from the video's first frame."""
    start: int
    """Time of the first frame as it stands in the source, in ticks."""
    times: tuple[int, ...]
    """When each frame is shown, in ticks from the clip's first frame."""
    length: int
    """How long the clip lasts, in ticks."""


def exact_seconds(seconds: float) -> Fraction:
    """Give the number that was written: 1.7 is 17/10, not the nearest binary fraction."""
    return Fraction(str(seconds))


def plan_clips(
    ticks: Sequence[int], time_base: Fraction, clip_seconds: Fraction, last_ticks: int
) -> tuple[ClipPlan, ...]:
    """Share a video's frames out to clips; the video's first frame is time 0 of the grid.

    A clip ends where the next one begins, so that clips follow one another without gap or overlap. Where the span
    behind it holds no frame, and so has no clip, it ends with its own span.

    Args:
        ticks: when each frame is shown, ascending, at least one.
        time_base: seconds of one tick.
        clip_seconds: length of a span, above 0.
        last_ticks: how long the source shows its last frame; 0 where it does not say.
    """
    spans = _group(ticks, clip_seconds / time_base)
    plans = []
    for index, (number, times) in enumerate(spans):
        if index + 1 == len(spans):
            end = times[-1] + last_length(ticks, time_base, clip_seconds, last_ticks)
        elif spans[index + 1][0] == number + 1:
            end = spans[index + 1][1][0]
        else:
            end = max(ticks[0] + int((number + 1) * clip_seconds / time_base), times[-1] + 1)
        plans.append(ClipPlan(number, times[0], tuple(time - times[0] for time in times), end - times[0]))
    return tuple(plans)


def _group(ticks: Sequence[int], ticks_of_span: Fraction) -> list[tuple[int, list[int]]]:
    first, above, below = ticks[0], ticks_of_span.numerator, ticks_of_span.denominator
    return [(number, list(times)) for number, times in groupby(ticks, lambda tick: (tick - first) * below // above)]


def last_length(ticks: Sequence[int], time_base: Fraction, clip_seconds: Fraction, declared: int) -> int:
    """Say how many ticks the last frame lasts: as declared, but no longer than any frame before it, or than a clip.

    A file may declare anything for its last frame; without this limit it could make the last clip hours long.
    """
    if len(ticks) > 1:
        gaps = [after - before for before, after in pairwise(ticks)]
        return max(1, min(declared or gaps[-1], max(gaps), int(clip_seconds / time_base)))
    lone = min(declared * time_base or _LONE_FRAME_SECONDS, clip_seconds)
    return max(int(lone / time_base), 1)


def decode_times(shown: Sequence[int]) -> list[int]:
    """Say when each frame of a clip is decoded: in order, never later than it is shown, and no earlier than needed.

    Args:
        shown: when each frame is shown, in ticks, in the order of decoding; no two alike.
    """
    ordered = sorted(shown)
    delay = max((turn - time for turn, time in zip(ordered, shown, strict=True)), default=0)
    return [turn - delay for turn in ordered]


def key_times(plans: Sequence[ClipPlan], time_base: Fraction) -> tuple[str, ...]:
    """Write when the clips behind the first begin, in seconds, rounded down to the microsecond.

    Rounded down, for the encoder puts a key frame on the first frame at or behind each time.
    """
    return tuple(_seconds(plan.start * time_base) for plan in plans[1:])


def _seconds(time: Fraction) -> str:
    micros = time.numerator * 1_000_000 // time.denominator
    sign, micros = ("-", -micros) if micros < 0 else ("", micros)
    return f"{sign}{micros // 1_000_000}.{micros % 1_000_000:06d}"
