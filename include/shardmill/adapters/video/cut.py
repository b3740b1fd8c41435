"""Cut a video into clips that hold each of its frames once, and prove it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import av
from av.packet import Packet
from av.video.stream import VideoStream

from shardmill.adapters.video.clips import Cut, write_clips
from shardmill.adapters.video.complaints import Complaints, complaints
from shardmill.adapters.video.copying import may_be_copied, source_packets, source_pictures
from shardmill.adapters.video.encoding import Wanted, encoded_pictures, is_plain
from shardmill.adapters.video.error import FramesDifferError, SoundDiffersError, StoppedError, VideoError
from shardmill.adapters.video.muxing import WrittenClip
from shardmill.adapters.video.places import MOST_BYTES
from shardmill.adapters.video.probe import Probe, decode_ticks, probe
from shardmill.adapters.video.proof import Beside, Pictures, prove
from shardmill.adapters.video.running import running
from shardmill.adapters.video.sound import Sound, piped_sound
from shardmill.adapters.video.sounding import encoded_sound
from shardmill.adapters.video.transcode import picture_command, sound_command
from shardmill.core.grid import MOST_SPANS, ClipPlan, exact_seconds, key_times, plan_clips

if TYPE_CHECKING:
    from shardmill.adapters.clip_reading import FootageTaking
    from shardmill.specs.recipes import SplitRecipe

LIMIT_SECONDS = 2 * 3600.0
"""No video may take longer."""
MOST_SECONDS = 300
"""So many seconds of a video become footage."""
Way = Literal["copied", "encoded", "ffmpeg"]
"""Where packets of pictures come from: the source, an encoder in this process, or ffmpeg."""
_UNSURE = ("damaged", "unsupported", "not_proven")


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
    way: Way = "encoded"
    """Where the packets of its pictures came from."""

    @property
    def copied(self) -> bool:
        """Whether the source's own packets were taken, and none was encoded again."""
        return self.way == "copied"


@dataclass(frozen=True)
class _Job:
    """What is to be cut, where to, and when to give it up."""

    video: Probe
    recipe: SplitRecipe
    folder: Path
    footage: Path | None
    stop: threading.Event
    deadline: float
    """By ``time.monotonic``."""
    odd_sound: bool = False
    """Whether its sound is left to ffmpeg."""

    def plan(self, ticks: tuple[int, ...]) -> tuple[ClipPlan, ...]:
        if not ticks:
            raise VideoError("no_frames", "expected at least one frame in the video stream, found none")
        if any(after <= before for before, after in pairwise(ticks)):
            raise VideoError("damaged", "expected each frame later than the one before, found two at one time")
        length = exact_seconds(self.recipe.clip_seconds)
        plans = plan_clips(ticks, self.video.time_base, length, self.video.last_ticks)
        if plans[-1].number >= MOST_SPANS:
            raise VideoError("too_large", f"expected at most {MOST_SPANS} clips, its last would be {plans[-1].number}")
        return plans


def cut_video(
    path: Path,
    recipe: SplitRecipe,
    *,
    name: str,
    folder: Path,
    stop: threading.Event,
    seconds: float = LIMIT_SECONDS,
    footage: Path | None = None,
) -> CutVideo:
    """Cut a video into clips in ``folder``.

    Time 0 of the grid is the video stream's first frame. The container's word on when frames are shown is taken
    first; where the decoder finds others (hidden frames, a start without a key frame), a decoding pass decides.

    Args:
        name: what the file is called in its shard.
        folder: an empty scratch folder of this video.
        stop: set it to have the work end early.
        seconds: the video may take so long.
        footage: file for what features are made of, as ``footage_file.load_footage`` reads it.

    Raises:
        VideoError: where the video cannot be used.
        StoppedError: ``stop`` was set.
    """
    deadline = time.monotonic() + seconds
    try:
        job = _Job(probe(path, name), recipe, folder, footage, stop, deadline)
        return _cut_here(job) or _encode(job)
    except MemoryError as error:
        message = "expected the video to fit into the memory that one may take, it did not"
        raise VideoError("out_of_memory", message) from error


def _cut_here(job: _Job) -> CutVideo | None:
    """Cut a video in this process; None where ffmpeg should, or should say what is wrong with it."""
    try:
        return _unless_unsure(_copy, job) or _unless_unsure(_encode_here, job)
    except SoundDiffersError:
        return None if job.odd_sound else _cut_here(replace(job, odd_sound=True))


def _unless_unsure(way: Callable[[_Job], CutVideo | None], job: _Job) -> CutVideo | None:
    try:
        return way(job)
    except SoundDiffersError:
        raise
    except FramesDifferError:
        return None
    except VideoError as error:
        if error.reason not in _UNSURE:
            raise
        return None


def _copy(job: _Job) -> CutVideo | None:
    """Cut a video without encoding its picture."""
    if not job.recipe.copy_matching or not job.video.ticks:
        return None
    plans = job.plan(job.video.ticks)
    if not may_be_copied(job.video, plans, job.recipe):
        return None
    with source_pictures(job.video) as pictures:
        return _cut(job, plans, "copied", pictures)


def _encode_here(job: _Job) -> CutVideo | None:
    """Cut a video whose pictures are plain."""
    return _cut(job, job.plan(job.video.ticks), "encoded") if is_plain(job.video) else None


def _encode(job: _Job) -> CutVideo:
    ticks = job.video.ticks or decode_ticks(job.video, job.deadline)
    try:
        return _cut(job, job.plan(ticks), "ffmpeg")
    except FramesDifferError as error:
        decoded = decode_ticks(job.video, job.deadline)
        if decoded == ticks:
            raise VideoError("damaged", f"frames were lost or came at other times: {error}") from error
    try:
        return _cut(job, job.plan(decoded), "ffmpeg")
    except FramesDifferError as error:
        raise VideoError("damaged", f"two decoders do not agree on its frames: {error}") from error


def _cut(job: _Job, plans: tuple[ClipPlan, ...], way: Way, pictures: Pictures | None = None) -> CutVideo:
    """Cut a video; ``pictures`` are the source's, which those of the clips must be."""
    clips: list[tuple[int, Path]] = []
    size = 0
    taking = _footage_taking(job) if job.footage else None
    with _written(job, plans, way) as written:
        for clip in written:
            taken = taking.begin(clip.plan.number) if taking else None
            prove(clip, job.video.time_base, Beside(pictures, taken))
            clips.append((clip.plan.number, clip.path))
            size += clip.path.stat().st_size
            if size > MOST_BYTES:
                raise VideoError("too_large", f"expected at most {MOST_BYTES} bytes of clips, found more")
            if time.monotonic() > job.deadline:
                raise VideoError("time_out", f"expected the clips in time, found {clip.plan.number + 1} of them")
            if job.stop.is_set():
                raise StoppedError("the shard was given up")
    if pictures is not None and next(pictures, None) is not None:
        raise FramesDifferError("expected as many frames as packets, found more")
    if taking is not None and job.footage is not None:
        _save_footage(taking, job.footage)
    length = (plans[-1].start + plans[-1].length - plans[0].start) * job.video.time_base
    frames = sum(len(plan.times) for plan in plans)
    return CutVideo(tuple(clips), frames, round(float(length), 6), job.video.facts, way)


def _footage_taking(job: _Job) -> FootageTaking:
    from shardmill.adapters.clip_reading import FootageTaking  # numpy, which is a third of a process' start-up

    return FootageTaking(job.recipe.clip_seconds, MOST_SECONDS)


def _save_footage(taking: FootageTaking, path: Path) -> None:
    from shardmill.adapters.footage_file import save_footage

    save_footage(path, taking.footage())


@contextmanager
def _written(job: _Job, plans: tuple[ClipPlan, ...], way: Way) -> Iterator[Iterator[WrittenClip]]:
    video = job.video
    with ExitStack() as stack:
        heard: Complaints = []
        if way == "ffmpeg":
            pipe = _begin_picture(job, plans, stack)
            sound = _sound_of_ffmpeg(job, plans, stack)
            container = stack.enter_context(av.open(f"pipe:{pipe}", format="nut"))
            picture: VideoStream = container.streams.video[0]
            packets: Iterator[Packet] = (packet for packet in container.demux(picture) if packet.size)
        else:
            heard = stack.enter_context(complaints())
            sound = _sound(job, plans, stack)
            wanted = Wanted(job.recipe, {plan.start for plan in plans}, job.deadline)
            found = source_packets(video) if way == "copied" else encoded_pictures(video, wanted)
            picture, packets = stack.enter_context(found)
        yield write_clips(picture, packets, sound, Cut(plans, video.time_base, job.folder))
        if heard:
            raise FramesDifferError("expected pictures and sound without complaint, a decoder complained")


def _begin_picture(job: _Job, plans: tuple[ClipPlan, ...], stack: ExitStack) -> int:
    keys = key_times(plans, job.video.time_base)
    file = job.folder / "keys"
    file.write_text(",".join(keys))
    return _begin(job, picture_command(job.video, job.recipe, file if keys else None), "errors", stack)


def _sound(job: _Job, plans: tuple[ClipPlan, ...], stack: ExitStack) -> Sound | None:
    if job.odd_sound:
        return _sound_of_ffmpeg(job, plans, stack)
    if job.video.audio is None:
        return None
    return stack.enter_context(encoded_sound(job.video, *_span(job, plans), job.recipe))


def _sound_of_ffmpeg(job: _Job, plans: tuple[ClipPlan, ...], stack: ExitStack) -> Sound | None:
    if job.video.audio is None:
        return None
    command, zero = sound_command(job.video, *_span(job, plans), job.recipe)
    return stack.enter_context(piped_sound(_begin(job, command, "sound-errors", stack), zero))


def _span(job: _Job, plans: tuple[ClipPlan, ...]) -> tuple[Fraction, Fraction]:
    base, last = job.video.time_base, plans[-1]
    return plans[0].start * base, (last.start + last.length) * base


def _begin(job: _Job, command: list[str], errors: str, stack: ExitStack) -> int:
    return stack.enter_context(
        running(command, video=job.video.path, errors=job.folder / errors, deadline=job.deadline)
    )
