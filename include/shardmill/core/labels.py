"""Labels: which video has which, and the vocabulary that numbers them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from shardmill.specs.value import short_hash

HEADER = ("video_id", "labels")
SEPARATOR = "|"
MAX_LABEL_CHARACTERS = 200


class LabelError(ValueError):
    """A label table cannot be read; names the line."""


@dataclass(frozen=True)
class LabelTable:
    """The labels of every labelled video."""

    vocabulary: tuple[str, ...]
    """Every label once, ascending; a label's place is its number in the records."""
    rows: Mapping[str, tuple[str, ...]]
    """The labels of each video, ascending and each once."""

    @staticmethod
    def from_rows(rows: Mapping[str, Iterable[str]]) -> LabelTable:
        """Make the table of these videos; a video without labels is left out."""
        sorted_rows = {video: tuple(sorted(set(labels))) for video, labels in sorted(rows.items())}
        labelled = {video: labels for video, labels in sorted_rows.items() if labels}
        return LabelTable(tuple(sorted({label for labels in labelled.values() for label in labels})), labelled)

    @staticmethod
    def from_csv(text: str) -> LabelTable:
        """Make the table of a CSV. Raises LabelError."""
        return LabelTable.from_rows(parse_label_csv(text))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {label: number for number, label in enumerate(self.vocabulary)}

    def labels_of(self, video: str) -> tuple[int, ...]:
        """Give the numbers of a video's labels, ascending; none where the table doesn't hold the video."""
        return tuple(self._numbers[label] for label in self.rows.get(video, ()))

    def names_of(self, video: str) -> tuple[str, ...]:
        """Give the names of a video's labels."""
        return self.rows.get(video, ())

    @cached_property
    def digest(self) -> str:
        """Short hash of vocabulary and table: records made with another table are stale."""
        return short_hash([self.vocabulary, dict(self.rows)])


def parse_label_csv(text: str) -> dict[str, tuple[str, ...]]:
    """Read the labels of each video from CSV lines ``video_id,label|label``; a header may stand first.

    Raises:
        LabelError: where a line is something else, or names a video for the second time.
    """
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    rows: dict[str, tuple[str, ...]] = {}
    try:
        for row in reader:
            if not row or (not rows and _is_header(row)):
                continue
            video, labels = _parse_row(row, reader.line_num)
            if video in rows:
                raise LabelError(f"line {reader.line_num}: {video!r} was named before; write its labels in one line")
            rows[video] = labels
    except csv.Error as error:
        raise LabelError(f"line {reader.line_num}: expected a line of CSV (RFC 4180): {error}") from error
    return rows


def _is_header(row: list[str]) -> bool:
    return tuple(cell.strip().lower() for cell in row) == HEADER


def _parse_row(row: list[str], line: int) -> tuple[str, tuple[str, ...]]:
    if len(row) != len(HEADER):
        raise LabelError(f"line {line}: expected two cells, video_id and labels, found {len(row)}: {row!r:.200}")
    video, labels = row[0].strip(), [label.strip() for label in row[1].split(SEPARATOR)]
    if not video:
        raise LabelError(f"line {line}: expected a video id, found none")
    if labels == [""]:
        return video, ()
    for text in (video, *labels):
        if not text or len(text) > MAX_LABEL_CHARACTERS or not text.isprintable():
            raise LabelError(
                f"line {line}: expected ids and labels of 1 to {MAX_LABEL_CHARACTERS} printable characters, "
                f"labels separated by one '{SEPARATOR}', found {row!r:.200}"
            )
    return video, tuple(labels)
