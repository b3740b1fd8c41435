"""The samples of a shard, one by one, and what becomes of each."""

from __future__ import annotations

import threading
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shardmill.core.video_keys import printable, why_unsafe
from shardmill.specs.manifest import Reject
from shardmill.specs.recipes import SplitRecipe

if TYPE_CHECKING:
    from shardmill.adapters.tar import Sample
    from shardmill.adapters.video import CutVideo


@dataclass(frozen=True)
class Case:
    """A sample whose video, if it has a usable key and one at all, lies in a scratch folder of a numeric name."""

    index: int
    """Number of the sample in the shard."""
    key: str
    name: str
    """What the video is called in the shard."""
    info: bytes
    folder: Path
    refused: Reject | None = None


@dataclass(frozen=True)
class Wanted:
    """Which samples of a shard are to be cut."""

    first: int = 0
    """Those before were dealt with by an earlier try."""
    keys: Container[str] | None = None
    """Only those; None for all."""


@dataclass
class Samples:
    """The samples of a tar, counted while they go by."""

    tar: Path
    scratch: Path
    wanted: Wanted
    count: int = 0
    """Samples seen so far, wanted or not."""

    def cases(self) -> Iterator[Case]:
        """Yield the wanted samples in order."""
        from shardmill.adapters.tar import read_samples

        seen: set[str] = set()
        for index, sample in enumerate(read_samples(self.tar)):
            self.count += 1
            first_of_its_key = sample.key not in seen
            seen.add(sample.key)
            if index < self.wanted.first:
                continue
            if self.wanted.keys is not None and not (first_of_its_key and sample.key in self.wanted.keys):
                continue
            yield self._case(index, sample, first_of_its_key)

    def _case(self, index: int, sample: Sample, first_of_its_key: bool) -> Case:
        folder, refused = self.scratch / f"{index:06d}", _refusal(sample, first_of_its_key)
        if refused is None:
            folder.mkdir()
            (folder / "video").write_bytes(sample.video)
        return Case(index, sample.key, printable(sample.name), sample.info, folder, refused)


def _refusal(sample: Sample, first_of_its_key: bool) -> Reject | None:
    from shardmill.adapters.tar import VIDEO_SUFFIXES

    if why := why_unsafe(sample.key):
        return Reject(key=printable(sample.key), reason="unsafe_key", message=why)
    if not first_of_its_key:
        message = "expected each key once, found one that came before"
        return Reject(key=sample.key, reason="duplicate_key", message=message)
    if not sample.name:
        expected = ", ".join(f".{suffix}" for suffix in VIDEO_SUFFIXES)
        return Reject(key=sample.key, reason="no_video", message=f"expected one of {expected}, found none")
    return None


def cut(recipe: SplitRecipe, case: Case, stop: threading.Event) -> CutVideo | Reject:
    """Cut the video of a sample, or say why it is refused."""
    from shardmill.adapters.video import VideoError, cut_video

    if case.refused is not None:
        return case.refused
    source, folder = case.folder / "video", case.folder / "clips"
    folder.mkdir()
    try:
        return cut_video(source, recipe, name=case.name, folder=folder, stop=stop)
    except VideoError as error:
        return Reject(key=case.key, reason=error.reason, message=printable(error.message), detail=error.detail)
    finally:
        source.unlink()
