"""The records of a shard, in parts of each subset, published one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from shardmill.adapters.lake import NewPart, ShardWriter
from shardmill.adapters.records import Record, write_records
from shardmill.specs.manifest import Part, Receipt, Reject, Subset, Video
from shardmill.specs.recipes import FeatureRecipe

SUBSETS: tuple[Subset, ...] = ("train", "validation")
_MEGABYTE = 1_000_000


@dataclass
class _Chain:
    """What of a subset is not in a part yet."""

    records: list[Record] = field(default_factory=list)
    videos: list[Video] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    frame_bytes: int = 0


class Publication:
    """Goes on behind what the receipts of an earlier try hold."""

    def __init__(self, writer: ShardWriter, recipe: FeatureRecipe, scratch: Path) -> None:
        self._writer, self._recipe, self._scratch = writer, recipe, scratch
        self._open = {subset: _Chain() for subset in SUBSETS}
        self._last_rejects: list[Reject] = []

    def is_done(self, subset: Subset, index: int) -> bool:
        """Say whether an earlier try dealt with a video of the clips' manifest."""
        return index < self._writer.next_sample(subset)

    def add(self, subset: Subset, index: int, record: Record, video: Video) -> None:
        """Take in a record; a full part is published."""
        chain = self._open[subset]
        chain.records.append(record)
        chain.videos.append(video)
        chain.frame_bytes += record.rgb.nbytes + record.audio.nbytes
        full = chain.frame_bytes >= self._recipe.max_part_mb * _MEGABYTE
        if full or len(chain.records) >= self._recipe.max_part_records:
            self._publish(subset, index + 1)

    def refuse(self, subset: Subset, reject: Reject) -> None:
        """Take in a video that has no record."""
        self._open[subset].rejects.append(reject)

    def _publish(self, subset: Subset, next_sample: int) -> None:
        chain = self._open[subset]
        path = self._scratch / f"{subset}.tfrecord"
        sizes = write_records(path, chain.records)
        offsets = accumulate(sizes[:-1], initial=0)
        videos = [
            video.model_copy(update={"offsets": (offset,), "sizes": (size,)})
            for video, offset, size in zip(chain.videos, offsets, sizes, strict=True)
        ]
        new = NewPart(path, len(sizes), next_sample, videos=videos, rejects=tuple(chain.rejects), subset=subset)
        self._writer.publish(new)
        path.unlink()
        self._open[subset] = _Chain()

    def close(self, videos: int) -> None:
        """Publish what is left.

        Args:
            videos: how many the clips' manifest lists.
        """
        for subset in SUBSETS:
            if self._open[subset].records:
                self._publish(subset, videos)
            self._last_rejects += self._open[subset].rejects  # no part comes behind them: the manifest alone has them

    @property
    def parts(self) -> Sequence[Part]:
        """The parts, training before validation."""
        return tuple(receipt.part for receipt in self._receipts())

    def _receipts(self) -> list[Receipt]:
        return [receipt for subset in SUBSETS for receipt in self._writer.resume(subset)]

    def videos(self, order: Mapping[str, int]) -> Sequence[Video]:
        """Give the videos that have records, each with its part, in the order of their numbers in ``order``."""
        found = [
            video.model_copy(update={"part": number})
            for number, receipt in enumerate(self._receipts())
            for video in receipt.videos
        ]
        return tuple(sorted(found, key=lambda video: order[video.key]))

    def rejects(self, order: Mapping[str, int]) -> Sequence[Reject]:
        """Give the videos that have none, in that order."""
        found = [reject for receipt in self._receipts() for reject in receipt.rejects] + self._last_rejects
        return tuple(sorted(found, key=lambda reject: order[reject.key]))
