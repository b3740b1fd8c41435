"""Describe videos by their clips: decoding runs ahead in threads, extraction in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from shardmill.core import logmel
from shardmill.core.borders import crop_padding
from shardmill.core.quantise import quantise
from shardmill.specs.recipes import FeatureRecipe

if TYPE_CHECKING:
    from shardmill.adapters.clip_reading import ClipError
    from shardmill.core.footage import Footage

Extract = Callable[[np.ndarray], np.ndarray]


class VideoClips(Protocol):
    """The clips of one video, as read from the clips' shards."""

    @property
    def key(self) -> str: ...
    @property
    def clips(self) -> Sequence[bytes]: ...
    @property
    def numbers(self) -> Sequence[int]: ...


@dataclass(frozen=True, eq=False)
class Described:
    """A video's record before labels and subset, or why there is none."""

    key: str
    clips: int
    seconds: float = 0.0
    rgb: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    audio: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    failure: str = ""


def describe(
    videos: Iterable[VideoClips], extract: Extract, recipe: FeatureRecipe, workers: int
) -> Iterator[Described]:
    """Describe videos in their order; decoding runs ahead in threads (libav lets go of the interpreter)."""
    ahead: deque[tuple[VideoClips, Future[Footage | ClipError]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for video in videos:
            ahead.append((video, pool.submit(_read, video, recipe)))
            if len(ahead) > 2 * workers:
                first, future = ahead.popleft()
                yield _finish(first, future.result(), extract)
        while ahead:
            first, future = ahead.popleft()
            yield _finish(first, future.result(), extract)


def _read(video: VideoClips, recipe: FeatureRecipe) -> Footage | ClipError:
    from shardmill.adapters.clip_reading import ClipError, read_footage

    try:
        return read_footage(
            video.clips, video.numbers, clip_seconds=recipe.split.clip_seconds, max_frames=recipe.max_frames
        )
    except ClipError as error:
        return error


def _finish(video: VideoClips, footage: Footage | ClipError, extract: Extract) -> Described:
    if isinstance(footage, Exception):
        return Described(video.key, len(video.clips), failure=str(footage))
    rgb, audio = describe_footage(footage, extract)
    return Described(video.key, len(video.clips), footage.seconds, rgb, audio)


def describe_footage(footage: Footage, extract: Extract) -> tuple[np.ndarray, np.ndarray]:
    """Describe pictures and sound of a video: uint8 [seconds, 1024] and uint8 [seconds, 128]."""
    rgb = quantise(extract(crop_padding(footage.frames)))
    audio = quantise(np.stack([logmel.describe_second(samples) for samples in footage.sound]))
    return rgb, audio
