"""Run ffmpeg on a stranger's file, read what it writes, and judge how it ended."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av

from shardmill.adapters.process import die_with_parent
from shardmill.adapters.video.error import FramesDifferError, VideoError

_CHUNK_BYTES = 1024 * 1024
_MEMORY_BYTES = 4 * 1024**3
_DETAIL_LINES, _DETAIL_CHARACTERS = 12, 2000
_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")
_UNSUPPORTED = re.compile(
    r"decoder .*not found|no decoder|unknown codec|not implemented|unsupported|patch(es)? welcome"
)
_NO_MEMORY = re.compile(
    r"cannot allocate memory|malloc of size \d+ failed|out of memory|get_buffer\(\) failed|pthread_create\(\) failed"
)
_KILLED = (-signal.SIGKILL, -signal.SIGXCPU, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)


def _prepare() -> None:
    die_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    room = _MEMORY_BYTES if most == resource.RLIM_INFINITY else min(_MEMORY_BYTES, most)
    resource.setrlimit(resource.RLIMIT_AS, (room, room))


@contextmanager
def running(command: Sequence[str], *, video: Path, errors: Path, deadline: float) -> Iterator[int]:
    """Run ffmpeg for the time of the block, which reads what it writes from the file descriptor that it gets.

    Args:
        video: what ffmpeg reads; its name is kept out of messages.
        errors: file for what ffmpeg complains of.
        deadline: by ``time.monotonic``; ffmpeg is killed then.

    Raises:
        VideoError: at the end of the block, where ffmpeg complained, was killed or ran out of time.
    """
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise VideoError("time_out", "expected the video to be read within its time, it was not")
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

    timer = threading.Timer(remaining, give_up)
    timer.start()
    broken: Exception | None = None
    try:
        try:
            yield process.stdout.fileno()
        except av.error.MemoryError:
            raise
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
        raise VideoError("time_out", "expected ffmpeg to end within the video's time, it did not")
    _judge(status, errors, video)
    if isinstance(broken, av.error.FFmpegError):
        raise VideoError("damaged", f"expected a whole stream of ffmpeg, found none: {broken.strerror}") from broken
    if broken is not None:
        raise broken


def _judge(status: int, errors: Path, video: Path) -> None:
    if status in _KILLED:
        raise VideoError("killed", f"expected ffmpeg to end by itself, it was ended by {signal.Signals(-status).name}")
    with errors.open("rb") as file:
        file.seek(max(0, errors.stat().st_size - 64 * 1024))
        words = file.read().decode("utf-8", "replace").strip()
    words = _ADDRESS.sub("", words).replace(str(video), "the video")  # the same words on every run
    if status == 0 and not words:
        return
    detail = "\n".join(words.splitlines()[-_DETAIL_LINES:])[-_DETAIL_CHARACTERS:]
    ended = f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    if _NO_MEMORY.search(words.lower()):
        raise VideoError("out_of_memory", f"expected ffmpeg to get by with its memory, it did not ({ended})", detail)
    if _UNSUPPORTED.search(words.lower()):
        raise VideoError("unsupported", f"ffmpeg cannot decode it ({ended})", detail)
    raise VideoError("damaged", f"expected ffmpeg to decode it without complaint, it complained ({ended})", detail)
