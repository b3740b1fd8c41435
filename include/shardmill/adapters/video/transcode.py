"""Run ffmpeg on one video: scaled, its sound as PCM, with a key frame where each clip begins."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import av
import ffmpeg
import imageio_ffmpeg

from shardmill.adapters.process import die_with_parent
from shardmill.adapters.video.error import FramesDifferError, StoppedError, VideoError
from shardmill.adapters.video.probe import FORMATS, MAX_PIXELS, PROTOCOLS, Probe
from shardmill.specs.recipes import SplitRecipe

# One thread each, for the encoder's bytes depend on their number; stderr holds errors only, for it is judged.
_GLOBAL = ("-hide_banner", "-nostdin", "-nostats", "-loglevel", "error", "-xerror", "-copyts")
_THREADS = ("-filter_threads", "1", "-filter_complex_threads", "1")
_X264 = "me=dia:ref=1:weightp=1:no-psy=1:b-adapt=0:partitions=i8x8,i4x4,p8x8:keyint=infinite:scenecut=0"
# accurate_rnd and bitexact give the same picture on every CPU.
_SCALING = "bicubic+accurate_rnd+bitexact"
_SAMPLE_RATES = "8000|11025|12000|16000|22050|24000|32000|44100|48000"
_NICENESS = 10
_CHUNK_BYTES = 1024 * 1024
_MEMORY_BYTES = 4 * 1024**3
_DETAIL_LINES, _DETAIL_CHARACTERS = 12, 2000
_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")
_UNSUPPORTED = re.compile(
    r"decoder .*not found|no decoder|unknown codec|not implemented|unsupported|patch(es)? welcome"
)
_STOPPED_BY_OTHERS = (-signal.SIGTERM, -signal.SIGKILL, -signal.SIGINT, -signal.SIGHUP)


@cache
def ffmpeg_version() -> str:
    """Give the first line of what ffmpeg says of its build."""
    shown = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-version"], capture_output=True, text=True, check=True)
    return shown.stdout.partition(" Copyright")[0].removeprefix("ffmpeg version ").strip()


def arguments(video: Probe, recipe: SplitRecipe, key_file: Path | None) -> list[str]:
    """Build ffmpeg's command line.

    Args:
        key_file: a text of times in seconds, separated by commas; None for a video of one clip.
    """
    source = ffmpeg.input(
        str(video.path), threads=1, protocol_whitelist=PROTOCOLS, format_whitelist=FORMATS, max_pixels=MAX_PIXELS
    )
    width, height = recipe.width, recipe.height
    picture = (
        source[str(video.video)]
        .filter(
            "scale",
            w=f"2*max(1,round(min({width},{height}*dar)/2))",
            h=f"2*max(1,round(min({height},{width}/dar)/2))",
            flags=_SCALING,
        )
        .filter("setsar", "1")
        .filter("pad", width, height, "(ow-iw)/2", "(oh-ih)/2", color="black")
        .filter("format", "yuv420p")
    )
    streams = [picture]
    if video.audio is not None:
        sound = source[str(video.audio)].filter("aresample", **{"async": 1})
        layouts = {"sample_fmts": "s16", "channel_layouts": "mono|stereo", "sample_rates": _SAMPLE_RATES}
        streams.append(sound.filter("aformat", **layouts))
    keys = {"/force_key_frames": str(key_file)} if key_file else {}
    output = ffmpeg.output(
        *streams,
        "pipe:1",
        format="nut",
        vcodec="libx264",
        preset=recipe.preset,
        crf=recipe.crf,
        bf=0,  # without B-frames a clip's first frame is shown at 0 and no edit list is needed for that
        forced_idr=1,
        threads=1,
        fps_mode="passthrough",
        enc_time_base="filter",
        acodec="pcm_s16le",
        flags="+bitexact",
        fflags="+bitexact",
        map_metadata=-1,
        map_chapters=-1,
        max_interleave_delta=0,  # strictly by time, whatever the speed of threads
        **{"x264-params": _X264},
        **keys,
    )
    return [imageio_ffmpeg.get_ffmpeg_exe(), *_GLOBAL, *_THREADS, *output.get_args()]


def _prepare() -> None:
    die_with_parent()
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


@contextmanager
def transcoding(
    video: Probe, recipe: SplitRecipe, key_times: Sequence[str], *, folder: Path, limit_seconds: float
) -> Iterator[int]:
    """Run ffmpeg for the time of the block, which reads the NUT stream from the file descriptor that it gets.

    Args:
        key_times: when the clips behind the first begin, in seconds.
        folder: scratch folder of this video.
        limit_seconds: ffmpeg is killed after so many seconds.

    Raises:
        VideoError: at the end of the block, where ffmpeg complained or ran out of time.
        StoppedError: somebody else stopped ffmpeg.
    """
    key_file, errors = folder / "keys", folder / "errors"
    key_file.write_text(",".join(key_times))
    command = arguments(video, recipe, key_file if key_times else None)
    with errors.open("wb") as sink:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sink,
            env={},  # the input is a stranger's: no credentials within its reach
            preexec_fn=_prepare,  # noqa: PLW1509 - it makes system calls only, and takes no lock
        )
    assert process.stdout is not None  # noqa: S101 - it was asked for
    late = threading.Event()

    def give_up() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(limit_seconds, give_up)
    timer.start()
    broken: Exception | None = None
    try:
        yield process.stdout.fileno()
    except (av.error.FFmpegError, FramesDifferError) as error:
        broken = error  # ffmpeg may have something to say about it: that comes first
        while process.stdout.read(_CHUNK_BYTES):
            pass
    except BaseException:
        process.kill()
        raise
    finally:
        process.stdout.close()
        status = process.wait()
        timer.cancel()
    if late.is_set():
        raise VideoError("time_out", f"expected ffmpeg to end within {limit_seconds:.0f} s, it did not")
    _judge(status, errors, video.path)
    if broken is not None:
        raise broken


def _judge(status: int, errors: Path, video: Path) -> None:
    if status in _STOPPED_BY_OTHERS:
        raise StoppedError(f"ffmpeg was ended by {signal.Signals(-status).name}: run the shard again")
    with errors.open("rb") as file:
        file.seek(max(0, errors.stat().st_size - 64 * 1024))
        words = file.read().decode("utf-8", "replace").strip()
    words = _ADDRESS.sub("", words).replace(str(video), "the video")  # the same words on every run
    if status == 0 and not words:
        return
    detail = "\n".join(words.splitlines()[-_DETAIL_LINES:])[-_DETAIL_CHARACTERS:]
    ended = f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    if _UNSUPPORTED.search(words.lower()):
        raise VideoError("unsupported", f"ffmpeg cannot decode it ({ended})", detail)
    raise VideoError("damaged", f"expected ffmpeg to decode it without complaint, it complained ({ended})", detail)
