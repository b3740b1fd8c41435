"""Vocabularies: the names of the labels that records number."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

MOST_CHARACTERS = 200
_NUMBER_COLUMNS = ("index", "label_id")
_NAME_COLUMNS = ("name", "label_name")


class VocabularyError(ValueError):
    """A vocabulary cannot be read; names the line."""


def numbered(count: int) -> tuple[str, ...]:
    """Name labels by their numbers."""
    return tuple(str(number) for number in range(count))


def parse_vocabulary(text: str) -> tuple[str, ...]:
    """Read the names of labels, each at its number's place.

    A CSV with the columns `Index` and `Name` (as YouTube-8M publishes it) or `label_id` and `label_name`, or else text
    with a name a line, the first being label 0. A number without a name, and a name that occurs a second time, are
    told apart by the number.

    Raises:
        VocabularyError: a row without a number, a number twice or far from the others, or nothing at all.
    """
    header = [
        column.strip().lower() for column in next(csv.reader([text.partition("\n")[0].removeprefix("\ufeff")]), [])
    ]
    number = next((header.index(column) for column in _NUMBER_COLUMNS if column in header), None)
    name = next((header.index(column) for column in _NAME_COLUMNS if column in header), None)
    if number is None or name is None:
        names = [line.strip() for line in text.removeprefix("\ufeff").splitlines()]
        while names and not names[-1]:
            names.pop()
    else:
        names = _names_of_rows(text, number, name)
    if not names:
        raise VocabularyError("expected names of labels, found none")
    return _told_apart(names)


def _names_of_rows(text: str, number: int, name: int) -> list[str]:
    found: dict[int, str] = {}
    rows = csv.reader(io.StringIO(text, newline=""))
    next(rows)
    for line, row in enumerate(rows, start=2):
        if not row:
            continue
        if len(row) <= max(number, name) or not row[number].strip().isdigit():
            raise VocabularyError(f"row {line}: expected a label's number and its name, found {row[:3]}")
        label = int(row[number])
        if label in found:
            raise VocabularyError(f"row {line}: label {label} is there twice")
        found[label] = row[name].strip()
    most = max(found, default=-1) + 1
    if most > 2 * len(found) + 100:
        raise VocabularyError(f"{len(found)} labels with numbers up to {most - 1}: expected numbers from 0 on")
    return [found.get(label, "") for label in range(most)]


def _told_apart(names: Sequence[str]) -> tuple[str, ...]:
    seen: set[str] = set()
    told = []
    for number, name in enumerate(names):
        short = name[:MOST_CHARACTERS]
        unique = str(number) if not short else f"{short} ({number})" if short in seen else short
        seen.add(unique)
        told.append(unique)
    return tuple(told)
