"""The parts of a shard, written and published one after the other, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shardmill.adapters.lake import NewPart, ShardWriter
from shardmill.core.video_keys import labels_of
from shardmill.jobs.split.cases import Case
from shardmill.specs.manifest import Part, Reject, Video
from shardmill.specs.recipes import SplitRecipe

if TYPE_CHECKING:
    from shardmill.adapters.tar import PartFile
    from shardmill.adapters.video import CutVideo

_MEGABYTE = 1_000_000
_NO_INFO = b"{}"


class Publication:
    """Goes on behind what the receipts of an earlier try hold."""

    def __init__(self, writer: ShardWriter, recipe: SplitRecipe, scratch: Path) -> None:
        self._writer, self._recipe, self._scratch = writer, recipe, scratch
        receipts = writer.resume()
        self.videos = [
            video.model_copy(update={"part": number})
            for number, receipt in enumerate(receipts)
            for video in receipt.videos
        ]
        self.rejects: list[Reject] = [reject for receipt in receipts for reject in receipt.rejects]
        self._new_videos: list[Video] = []
        self._new_rejects: list[Reject] = []
        self._file: PartFile | None = None

    @property
    def parts(self) -> Sequence[Part]:
        """The parts published so far."""
        return tuple(self._writer.parts())

    def add(self, case: Case, result: CutVideo | Reject) -> str:
        """Take in what became of a sample, and say it in a line."""
        if isinstance(result, Reject):
            self._new_rejects.append(result)
            return f"{result.key}: refused: {result.reason}: {result.message}"
        if self._file is not None and self._file.is_full:
            self._publish(self._file, case.index)
        info = _read_info(case.info)
        self._write(case, result, case.info if info else _NO_INFO)
        numbers = {number for number, _ in result.clips}
        video = Video(
            key=case.key,
            clips=len(result.clips),
            frames=result.frames,
            seconds=result.seconds,
            labels=labels_of(info),
            gaps=tuple(sorted(set(range(max(numbers))) - numbers)),
        )
        self._new_videos.append(video)
        return f"{video.key}: {video.clips} clips, {video.frames} frames, {video.seconds:.3f} s"

    def _write(self, case: Case, result: CutVideo, info: bytes) -> None:
        from shardmill.adapters.tar import Clip, PartFile

        facts = json.dumps(result.facts, sort_keys=True, ensure_ascii=False).encode()
        if self._file is None:
            self._file = PartFile(
                self._scratch / "part.tar",
                max_bytes=self._recipe.max_part_mb * _MEGABYTE,
                max_clips=self._recipe.max_part_clips,
            )
        for number, path in result.clips:
            self._file.write(case.key, Clip(number, path.read_bytes(), facts, info))

    def _publish(self, file: PartFile, next_sample: int) -> None:
        places = file.close()
        number = len(self.parts)
        placed = [
            video.model_copy(
                update={
                    "part": number,
                    "offsets": tuple(place.offset for place in places[video.key]),
                    "sizes": tuple(place.size for place in places[video.key]),
                }
            )
            for video in self._new_videos
        ]
        new = NewPart(file.path, file.clips, next_sample, videos=placed, rejects=tuple(self._new_rejects))
        self._writer.publish(new)
        file.path.unlink()
        self.videos += placed
        self.rejects += self._new_rejects
        self._file, self._new_videos, self._new_rejects = None, [], []

    def close(self, samples: int) -> None:
        """Publish the last part.

        Args:
            samples: how many the shard holds.
        """
        if self._file is not None:
            self._publish(self._file, samples)
        self.rejects += self._new_rejects  # those behind the last part stand in the manifest alone
        self._new_rejects = []


def _read_info(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
