"""The parts of a shard, written one after the other and published behind the back of those who cut."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from shardmill.adapters.lake import NewPart, ShardWriter, file_sha256
from shardmill.adapters.tar import Clip, PartFile
from shardmill.adapters.video.pieces import Pieces
from shardmill.core.video_keys import labels_of
from shardmill.jobs.split.cases import Case, Position
from shardmill.specs.manifest import Part, Reject, Video
from shardmill.specs.recipes import SplitRecipe

MEGABYTE = 1_000_000
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
        self._closed = len(receipts)
        self._new_videos: list[Video] = []
        self._new_rejects: list[Reject] = []
        self._file: PartFile | None = None
        self._uploader = ThreadPoolExecutor(1, thread_name_prefix="publish")
        self._upload: Future[None] | None = None

    def parts(self) -> Sequence[Part]:
        """Give the parts; to be called when all are published."""
        return tuple(self._writer.parts())

    def add(self, case: Case, result: Pieces | Reject) -> Video | Reject:
        """Take in what became of a sample; its clips are gone from scratch then. Returns what the manifest says."""
        if isinstance(result, Reject):
            self._new_rejects.append(result)
            return result
        if self._file is not None and self._file.is_full:
            self._publish(self._file, case.index, case.begins)
        self._wait_for_room()
        info = _read_info(case.info)
        self._write(case, result, case.info if info else _NO_INFO)
        video = Video(
            key=case.key,
            clips=len(result.numbers),
            frames=result.frames,
            seconds=result.seconds,
            labels=labels_of(info),
            gaps=tuple(sorted(set(range(max(result.numbers))) - set(result.numbers))),
            copied=result.copied,
        )
        self._new_videos.append(video)
        result.remove()
        return video

    def _wait_for_room(self) -> None:
        """Keep scratch small: while a part is on its way, the next one grows to a quarter of one at most."""
        if self._upload is None:
            return
        if self._upload.done() or (self._file is not None and self._file.size * 4 >= self._file.max_bytes):
            self._upload.result()

    def _write(self, case: Case, result: Pieces, info: bytes) -> None:
        facts = json.dumps(result.facts, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace")
        if self._file is None:
            self._file = PartFile(
                self._scratch / f"part-{self._closed:06d}.tar",
                max_bytes=self._recipe.max_part_mb * MEGABYTE,
                max_clips=self._recipe.max_part_clips,
            )
        for number in result.numbers:
            self._file.write(case.key, Clip(number, result.read(number), facts, info))

    def _publish(self, file: PartFile, next_sample: int, begins: Position) -> None:
        places = file.close()
        placed = [
            video.model_copy(
                update={
                    "part": self._closed,
                    "offsets": tuple(place.offset for place in places[video.key]),
                    "sizes": tuple(place.size for place in places[video.key]),
                }
            )
            for video in self._new_videos
        ]
        self._wait()
        rejects = tuple(self._new_rejects)
        self._upload = self._uploader.submit(self._put, file, (next_sample, begins), placed, rejects)
        self.videos += placed
        self.rejects += rejects
        self._closed += 1
        self._file, self._new_videos, self._new_rejects = None, [], []

    def _put(
        self, file: PartFile, then: tuple[int, Position], videos: Sequence[Video], rejects: Sequence[Reject]
    ) -> None:
        next_sample, begins = then
        new = NewPart(
            file.path,
            file.clips,
            next_sample,
            videos=videos,
            rejects=rejects,
            sha256=file_sha256(file.path),
            source_offset=begins.offset,
            source_sha256=begins.sha256,
        )
        self._writer.publish(new)
        file.path.unlink()

    def _wait(self) -> None:
        if self._upload is not None:
            self._upload.result()

    def close(self, samples: int, end: Position) -> None:
        """Publish the last part and wait until all are.

        Args:
            samples: how many the shard holds.
            end: of the shard.
        """
        if self._file is not None:
            self._publish(self._file, samples, end)
        self._wait()
        self.rejects += self._new_rejects  # those behind the last part stand in the manifest alone
        self._new_rejects = []

    def __enter__(self) -> Publication:
        return self

    def __exit__(self, *error: object) -> None:
        # One at most waits, and it is whole: after an error too, for the next try goes on behind it.
        self._uploader.shutdown()


def _read_info(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
