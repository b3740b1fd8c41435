"""Cut a video into clips that hold each of its frames once, and prove it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import av

from shardmill.adapters.video.clips import Cut, write_clips
from shardmill.adapters.video.error import FramesDifferError, StoppedError, VideoError
from shardmill.adapters.video.probe import Probe, decode_ticks, probe
from shardmill.adapters.video.proof import prove
from shardmill.adapters.video.transcode import ffmpeg_version, transcoding
from shardmill.core.grid import exact_seconds, key_times, plan_clips
from shardmill.specs.recipes import SplitRecipe

LIMIT_SECONDS = 2 * 3600.0
"""No video may take longer."""


@dataclass(frozen=True)
class CutVideo:
    """A video's clips on disk, proven."""

    clips: tuple[tuple[int, Path], ...]
    """Number and file of each clip, ascending."""
    frames: int
    """Frames of the source, which are those of its clips."""
    seconds: float
    """Length of the video stream."""
    facts: dict[str, Any]
    """Format and streams of the source, named as ffprobe names them."""


def tools() -> dict[str, str]:
    """Tell the builds that cut, for manifests."""
    return {"ffmpeg": ffmpeg_version(), "av": av.__version__}


@dataclass(frozen=True)
class Limits:
    """When to give a video up."""

    deadline: float
    """By ``time.monotonic``: the video takes too long."""
    stop: threading.Event
    """Set from outside: nobody wants the clips any more."""


def cut_video(
    path: Path, recipe: SplitRecipe, *, name: str, folder: Path, stop: threading.Event, seconds: float = LIMIT_SECONDS
) -> CutVideo:
    """Cut a video into clips in ``folder``.

    Time 0 of the grid is the video stream's first frame. The container's word on when frames are shown is taken
    first; where the decoder finds others (hidden frames, a start without a key frame), a decoding pass decides.

    Args:
        name: what the file is called in its shard.
        folder: an empty scratch folder of this video.
        stop: set it to have the work end early.
        seconds: the video may take so long.

    Raises:
        VideoError: where the video cannot be used.
        StoppedError: ``stop`` was set, or somebody else stopped ffmpeg.
    """
    limits = Limits(time.monotonic() + seconds, stop)
    video = probe(path, name)
    ticks = video.ticks or decode_ticks(video, limits.deadline)
    try:
        return _cut(video, recipe, ticks, folder=folder, limits=limits)
    except FramesDifferError as error:
        decoded = decode_ticks(video, limits.deadline)
        if decoded == ticks:
            raise VideoError("damaged", f"frames were lost or came at other times: {error}") from error
    try:
        return _cut(video, recipe, decoded, folder=folder, limits=limits)
    except FramesDifferError as error:
        raise VideoError("damaged", f"two decoders do not agree on its frames: {error}") from error


def _cut(video: Probe, recipe: SplitRecipe, ticks: tuple[int, ...], *, folder: Path, limits: Limits) -> CutVideo:
    if not ticks:
        raise VideoError("no_frames", "expected at least one frame in the video stream, found none")
    if any(after <= before for before, after in pairwise(ticks)):
        raise VideoError("damaged", "expected each frame later than the one before, found two at one time")
    plans = plan_clips(ticks, video.time_base, exact_seconds(recipe.clip_seconds), video.last_ticks)
    clips: list[tuple[int, Path]] = []
    cut = Cut(plans, video.time_base, recipe.audio_kbps, folder)
    remaining = limits.deadline - time.monotonic()
    if remaining <= 0:
        raise VideoError("time_out", "expected the video to be read within its time, it was not")
    keys = key_times(plans, video.time_base)
    with transcoding(video, recipe, keys, folder=folder, limit_seconds=remaining) as stream:
        for clip in write_clips(stream, cut):
            prove(clip, video.time_base)
            clips.append((clip.plan.number, clip.path))
            if limits.stop.is_set():
                raise StoppedError("the shard was given up")
    length = (plans[-1].start + plans[-1].length - plans[0].start) * video.time_base
    return CutVideo(tuple(clips), len(ticks), round(float(length), 6), video.facts)
