"""A worker's share of the records, read from the lake part by part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from shardmill.adapters.record_batches.batch import BatchPlan, Item
from shardmill.adapters.record_batches.slice import SliceWalk
from shardmill.adapters.records import VideoRecord, checked_chunks, read_entries
from shardmill.adapters.store import MissingObjectError, Store, split_uri
from shardmill.core.record_rejects import check_record_rejects
from shardmill.core.worker_shares import PartSlice
from shardmill.specs.record_rejects import RejectTally

_MEGABYTE = 1_000_000


def item_bytes(item: Item) -> int:
    """Give the bytes that a record takes in memory."""
    if isinstance(item, VideoRecord):
        return item.mean_rgb.nbytes + item.mean_audio.nbytes
    return item.rgb.nbytes + item.audio.nbytes


@dataclass(frozen=True)
class _Known:
    """What is known of a slice since it was read."""

    version: str
    """Of the object."""
    size: int
    """Of the object, in bytes."""
    offset: int
    """In the object, of the slice's first record."""


class ShareReader:
    """Reads the records of a share, as often as asked; counts what cannot be used.

    The first time each part is read whole and its SHA-256 compared. Later reads begin at the slice's first record and
    ask for the same version of the object. The checksums of the records are compared each time. Slices that fit into
    the plan's memory are kept.
    """

    def __init__(self, share: Sequence[PartSlice], plan: BatchPlan) -> None:
        self._share, self._plan = tuple(share), plan
        self._stores: dict[str, Store] = {}
        self._known: dict[int, _Known] = {}
        self._kept: dict[int, list[Item]] = {}
        self._room = plan.memory_mb * _MEGABYTE
        self.rejects = RejectTally()

    @property
    def records(self) -> int:
        """Records of the share, rejects included."""
        return sum(piece.stop - piece.start for piece in self._share)

    def read(self, order: Iterable[int]) -> Iterator[Item]:
        """Yield the records of the share's slices, these in the order given.

        Raises:
            MissingObjectError, ChangedObjectError, DamagedObjectError: a part is not the file that was planned with.
            LabelError: a record has labels beyond the vocabulary, or none where they are needed.
            TooManyRejectsError: more records than the plan allows cannot be used.
        """
        for number in order:
            if number in self._kept:
                yield from self._kept[number]
            else:
                yield from self._keep(number, self._read(number))
                check_record_rejects(self.rejects, self.records, self._plan.max_reject_share)

    def _keep(self, number: int, items: Iterable[Item]) -> Iterator[Item]:
        kept, room = [], self._room
        for item in items:
            room -= item_bytes(item)
            if room >= 0:
                kept.append(item)
            else:
                kept.clear()
            yield item
        if room >= 0:
            self._kept[number], self._room = kept, room

    def _read(self, number: int) -> Iterator[Item]:
        walk = SliceWalk(self._share[number], self._plan)
        if (known := self._known.get(number)) is None:
            yield from self._read_whole(number, walk)
        else:
            store, key = self._open(walk.uri)
            chunks = store.stream(key, known.version, start=known.offset, end=known.size)
            yield from walk.items(read_entries(chunks, known.offset), from_start=False)
        self.rejects += RejectTally(rejects=tuple(walk.rejects))

    def _read_whole(self, number: int, walk: SliceWalk) -> Iterator[Item]:
        store, key = self._open(walk.uri)
        if (info := store.head(key)) is None:
            raise MissingObjectError(f"{walk.uri} is not there")
        chunks = checked_chunks(store.stream(key, info.version, end=info.size), walk.piece.part.sha256, walk.uri)
        yield from walk.items(read_entries(chunks), from_start=True)
        for _ in chunks:  # behind damage
            pass
        walk.check_count()
        if walk.offset is not None:  # else the file is cut before the slice, and "none" was kept
            self._known[number] = _Known(info.version, info.size, walk.offset)

    def _open(self, uri: str) -> tuple[Store, str]:
        folder, key = split_uri(uri)
        if folder not in self._stores:
            self._stores[folder] = Store(folder)
        return self._stores[folder], key
