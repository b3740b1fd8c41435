"""How numbers are written for people, and how text from data is made fit to be shown."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from shardmill.specs.prices import Span


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


def size_text(size: int | None) -> str:
    """Write bytes in a unit that fits; a dash where they are unknown."""
    if size is None:
        return "–"
    amount, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.3g} {unit}" if unit != "B" else f"{size} B"


def usd_text(value: float | None) -> str:
    """Write USD; a dash where they are unknown, or not counted."""
    return "–" if value is None else f"{value:,.2f}"


def hours_text(span: Span | None) -> str:
    """Write a least and a most in hours in one unit that fits both; a dash where they are unknown."""
    if span is None:
        return "–"
    factor, unit, digits = (3600, "s", 0) if span[1] < 1 / 30 else (60, "min", 0) if span[1] < 2 else (1, "h", 1)
    return f"{span_text((span[0] * factor, span[1] * factor), lambda value: f'{value:,.{digits}f}')} {unit}"


def span_text(span: Span | None, write: Callable[[float | None], str]) -> str:
    """Write a least and a most, once where both read the same."""
    if span is None:
        return "–"
    least, most = map(write, span)
    return least if least == most else f"{least} – {most}"


def printable(text: str, most: int = 300) -> str:
    """Make text from data fit to be shown: no control characters, no marks that turn its direction, not endless."""
    shown = "".join(
        character
        if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn")
        else "�"
        for character in text[: most + 1]
    )
    return shown if len(text) <= most else shown[:most] + "…"


def change_text(value: float | None) -> str:
    """Write a difference with its sign: a count as it is, a score with three digits; a dash where it is unknown."""
    if value is None:
        return "–"
    if abs(value) < (0.5 if isinstance(value, int) else 0.0005):
        return "±0"
    sign = "+" if value > 0 else "−"
    return sign + (count_text(abs(value)) if isinstance(value, int) else score_text(abs(value)))


def number_text(value: float | None) -> str:
    """Write a count as one and a score as one; a dash where it is unknown."""
    return count_text(value) if value is None or isinstance(value, int) else score_text(value)


def moment_text(iso: str) -> str:
    """Write a moment, ISO 8601 in UTC, as people read it; what is none stays as it is."""
    day, _, rest = iso.partition("T")
    return f"{day} {rest[:5]} UTC" if len(day) == 10 and rest.endswith(("+00:00", "Z")) else iso
