"""What runs in the sandbox: a process that forks a child for each video, which probes, cuts and proves it.

It imports once what every child needs. A child that crashes, or is taken over by what it decodes, takes nothing with
it: it holds no file descriptor but its own, cannot look into its parent, and all that it leaves behind is killed.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import imageio_ffmpeg

from shardmill.adapters.video.cut import cut_video
from shardmill.adapters.video.error import StoppedError, VideoError
from shardmill.adapters.video.muxing import ClipWriteError
from shardmill.adapters.video.places import CLIPS, FOOTAGE, MOST_ANSWER_BYTES, READY, VIDEO

_NICENESS = 10
"""Whatever else this machine does comes first."""
_PR_SET_DUMPABLE = 4
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MEBIBYTE = 1024 * 1024
_MOST_FACTS_BYTES = 256 * 1024
_MOST_STREAMS = 100
_COPIED, _BY_PROGRAM = b'"way": "copied"}', b'"way": "ffmpeg"}'
"""How the answer about a video ends whose pictures were taken over, or that was left to the ffmpeg program."""


def main() -> None:
    """Answer each line of stdin, a JSON of what is asked, by a line on stdout."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # no child may trace this process
    os.nice(_NICENESS)
    _keep_memory()
    gc.freeze()  # what was imported is not looked through again
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answers.write(READY.encode() + b"\n")
    answers.flush()
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        if asked["footage"]:
            _import_arrays()
        status, answer = _in_a_child(asked, answers.fileno())
        if answer.endswith(_COPIED):
            _import_arrays()  # the next one may well need them too
        if answer.endswith(_BY_PROGRAM):
            imageio_ffmpeg.get_ffmpeg_exe()  # starts it to see that it runs: here, not once a video from now on
        said = answer.decode("utf-8", "replace") if len(answer) <= MOST_ANSWER_BYTES else ""
        answers.write(json.dumps({"status": status, "said": said}).encode() + b"\n")
        answers.flush()


def _keep_memory() -> None:
    """Have the C library keep what is freed: given back, it is faulted in again for the next frame, page by page."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # of glibc
        library.mallopt(_M_MMAP_THRESHOLD, 32 * _MEBIBYTE)
        library.mallopt(_M_TRIM_THRESHOLD, 64 * _MEBIBYTE)


def _import_arrays() -> None:
    """Import what footage and the comparison of pictures need, once for all children to come.

    Not before it is needed: numpy is a third of the start-up.
    """
    import shardmill.adapters.clip_reading
    import shardmill.adapters.footage_file  # noqa: F401


def _in_a_child(asked: dict[str, Any], answers: int) -> tuple[int, bytes]:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        for number in (0, answers):
            os.close(number)
        _work(asked, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read(MOST_ANSWER_BYTES + 1)
    _, status = os.waitpid(child, 0)
    _end_what_is_left()
    return os.waitstatus_to_exitcode(status), answer


def _end_what_is_left() -> None:
    if os.getpid() != 1:  # only as the first process of a namespace: anywhere else these are other people's processes
        return
    try:
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0)
    except (ProcessLookupError, ChildProcessError):
        return


def _work(asked: dict[str, Any], writing: int) -> None:
    """Cut a video in the child, which ends here."""
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        answer = json.dumps(_answer(asked)).encode()
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(answer)
        status = 0
    except BaseException:  # noqa: BLE001  (the child ends whatever happened; its parent sees the status)
        traceback.print_exc()
    finally:
        os._exit(status)


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    folder = Path(asked["folder"])
    (folder / CLIPS).mkdir()
    try:
        cut = cut_video(
            folder / VIDEO,
            cast("Any", SimpleNamespace(**asked["recipe"])),  # no pydantic here, for it takes half of the start-up
            name=asked["name"],
            folder=folder / CLIPS,
            stop=threading.Event(),
            seconds=asked["seconds"],
            footage=folder / FOOTAGE if asked["footage"] else None,
        )
    except VideoError as error:
        return {"refused": {"reason": error.reason, "message": error.message, "detail": error.detail}}
    except StoppedError as error:
        return {"refused": {"reason": "killed", "message": str(error), "detail": ""}}
    except (ClipWriteError, OSError) as error:
        return {"failed": f"cutting failed: {error}"}
    except MemoryError:
        message = "expected the video to fit into the memory that one may take, it did not"
        return {"refused": {"reason": "out_of_memory", "message": message, "detail": ""}}
    return {
        "clips": [number for number, _ in cut.clips],
        "frames": cut.frames,
        "seconds": cut.seconds,
        "facts": _bounded(cut.facts),
        "way": cut.way,
    }


def _bounded(facts: dict[str, Any]) -> dict[str, Any]:
    """Leave tags out where they are a book: facts go beside every clip."""
    if len(json.dumps(facts)) <= _MOST_FACTS_BYTES:
        return facts
    bare = [
        {name: value for name, value in one.items() if name != "tags"} for one in (facts["format"], *facts["streams"])
    ]
    return {"format": bare[0], "streams": bare[1:][:_MOST_STREAMS]}


if __name__ == "__main__":
    main()
