"""A slice of a part: its records as they are used, and its rejects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from shardmill.adapters.record_batches.batch import BatchPlan, Item
from shardmill.adapters.records import Damage, Entry, RecordError, decode_means, decode_record
from shardmill.adapters.store import DamagedObjectError
from shardmill.core.worker_shares import PartSlice
from shardmill.specs.record_rejects import RecordReject


class LabelError(ValueError):
    """A record's labels are not those of the vocabulary, or are missing; names the file and the record."""


class SliceWalk:
    """One walk through the entries of a part, from its first one or from the slice's first one."""

    def __init__(self, piece: PartSlice, plan: BatchPlan) -> None:
        self.piece, self._plan = piece, plan
        self.uri = piece.part.uri
        self.offset: int | None = None
        """In the file, of the slice's first record, once it was met."""
        self.rejects: list[RecordReject] = []
        self._index = 0
        self._is_cut = False

    def items(self, entries: Iterable[Entry | Damage], *, from_start: bool) -> Iterator[Item]:
        """Yield the slice's records.

        Args:
            entries: of the part from its first one on, all of which are walked through; without ``from_start`` from
                the slice's first one on, and the walk ends with the slice.
        """
        self._index = 0 if from_start else self.piece.start
        for entry in entries:
            if isinstance(entry, Damage) and entry.ends_file:
                self._is_cut = True
                self._refuse_rest(entry)
                return
            if self._index == self.piece.start:
                self.offset = entry.offset
            if self.piece.start <= self._index < self.piece.stop and (item := self._use(entry)) is not None:
                yield item
            self._index += 1
            if not from_start and self._index == self.piece.stop:
                return

    def check_count(self) -> None:
        """Refuse a part, walked through to its end, that has another number of records. Raises DamagedObjectError."""
        expected, found = self.piece.part.records, self._index
        if found > expected or (found < expected and not self._is_cut):
            raise DamagedObjectError(f"{self.uri} is damaged: expected {expected} records, found {found}")

    def _use(self, entry: Entry | Damage) -> Item | None:
        if isinstance(entry, Damage):
            self._refuse(entry.offset, entry.reason)
            return None
        try:
            item = self._decode(entry.payload)
        except RecordError as error:
            self._refuse(entry.offset, str(error))
            return None
        self._check_labels(item, entry.offset)
        return item

    def _decode(self, payload: bytes) -> Item:
        if self._plan.level == "video":
            return decode_means(payload)
        record = decode_record(payload)
        if not 1 <= len(record.rgb) <= self._plan.max_frames:
            raise RecordError(
                f"expected 1 to {self._plan.max_frames} frames in a record, found {len(record.rgb)}"
                + ("" if len(record.rgb) else ": video-level records are for models of that level")
            )
        return record

    def _check_labels(self, item: Item, offset: int) -> None:
        count = self._plan.labels
        if count is None:
            return
        where = f"{self.uri}, record {item.id!r} at offset {offset}"
        if not item.has_labels:
            raise LabelError(
                f"{where}: expected labels, found none: take a split that has them (test splits have none)"
            )
        if item.labels and not (min(item.labels) >= 0 and max(item.labels) < count):
            raise LabelError(
                f"{where}: expected labels from 0 to {count - 1}, found {item.labels}: "
                "the records have another vocabulary"
            )

    def _refuse(self, offset: int, reason: str, records: int = 1) -> None:
        self.rejects.append(RecordReject(file=self.uri, offset=offset, reason=reason, records=records))

    def _refuse_rest(self, damage: Damage) -> None:
        lost = self.piece.stop - max(self._index, self.piece.start)
        if lost > 0 or self.piece.stop == self.piece.part.records:
            rest = "; from there on the file is lost"
            self._refuse(damage.offset, damage.reason + rest, max(lost, 1))
