"""Cut videos in sandboxed processes, each of which takes one video after the other."""

from __future__ import annotations

import importlib.metadata
import json
import os
import select
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import imageio_ffmpeg
from pydantic import Field, ValidationError

from shardmill.adapters.process import start_child
from shardmill.adapters.sandbox import Sandbox, find_sandbox, likely_sandbox, module_command
from shardmill.adapters.video.avx import require_avx
from shardmill.adapters.video.error import SlotError, StoppedError, VideoError
from shardmill.adapters.video.pieces import NonsenseError, Pieces, size_of
from shardmill.adapters.video.places import MOST_ANSWER_BYTES, READY, VIDEO
from shardmill.core.grid import MOST_SPANS
from shardmill.specs.recipes import SplitRecipe
from shardmill.specs.value import Spec

INSIDE = "shardmill.adapters.video.inside"
_START_SECONDS = 120.0
_GRACE_SECONDS = 5.0
_READ_BYTES = 1024 * 1024
_LOG_BYTES = 2000
_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT)


class _Refused(Spec):
    reason: str
    message: str
    detail: str = ""


class _Answer(Spec):
    refused: _Refused | None = None
    failed: str = ""
    """Why the machine, not the video, is to blame."""
    clips: tuple[Annotated[int, Field(ge=0, lt=MOST_SPANS)], ...] = ()
    frames: int = Field(0, ge=0)
    seconds: float = Field(0.0, ge=0, allow_inf_nan=False)
    facts: dict[str, Any] = Field(default_factory=dict)
    way: Literal["copied", "encoded", "ffmpeg"] = "encoded"


def time_limit(size: int) -> float:
    """Give the seconds that a video of so many bytes may take: far more than one core needs for any that is whole."""
    return 120 + 30 * size / 1_000_000


class Slot:
    """A process that cuts videos; started with the first one, and anew where one ended it."""

    def __init__(self, recipe: SplitRecipe, folder: Path) -> None:
        """Prepare.

        Args:
            folder: of its own, made when it is needed: all that the process may write to.
        """
        self._recipe, self._folder = recipe.model_dump(), folder
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def cut(self, video: Path, *, name: str, to: Path, seconds: float = 0, footage: bool = False) -> Pieces:
        """Cut a video, whose file is gone then.

        Args:
            name: what the file is called in its shard.
            to: a folder that is not there yet, on the same file system; it will hold the clips.
            seconds: the video may take so long; 0 for a limit by its size.
            footage: whether what `clip_reading` would read is wanted too.

        Raises:
            VideoError: where the video cannot be used.
            SlotError: the process does not start, or this machine (its disk, say) failed it.
            SandboxError: there is no sandbox on this machine.
            UnfitCpuError: its CPU would give other clips than those of other machines.
            StoppedError: `kill` was called.
        """
        process = self._ready()
        inner = self._folder / "now"
        shutil.rmtree(inner, ignore_errors=True)
        inner.mkdir()
        seconds = seconds or time_limit(video.stat().st_size)
        video.rename(inner / VIDEO)
        asked = {"folder": str(inner), "name": name, "recipe": self._recipe, "seconds": seconds, "footage": footage}
        try:
            answer = self._ask(process, asked, seconds + _GRACE_SECONDS)
            return self._take_out(answer, inner, to)
        finally:
            shutil.rmtree(inner, ignore_errors=True)

    def _take_out(self, answer: _Answer, inner: Path, to: Path) -> Pieces:
        if answer.failed:
            raise SlotError(answer.failed)
        if answer.refused is not None:
            raise VideoError(answer.refused.reason, answer.refused.message, answer.refused.detail)
        try:
            size = size_of(inner, answer.clips)
            (inner / VIDEO).unlink()
            inner.rename(to)
        except (OSError, NonsenseError) as error:
            self._end()
            raise VideoError("crashed", f"the process that cut it left something else than clips: {error}") from error
        return Pieces(to, answer.clips, answer.frames, answer.seconds, answer.facts, answer.way == "copied", size)

    def _ready(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise StoppedError("the shard was given up")
        if self._process is not None:
            return self._process
        require_avx()
        self._folder.mkdir(exist_ok=True)
        process = self._start_inside()
        if self._closed:  # meanwhile
            self.kill()
        if self._line(process, time.monotonic() + _START_SECONDS) != READY.encode():
            self._check_closed()
            said = self._said()
            self._end()
            raise SlotError(f"the process that is to cut videos did not start: {said or 'it said nothing'}")
        return process

    def _start_inside(self) -> subprocess.Popen[bytes]:
        """Start the process in this machine's sandbox; it begins to import while the sandbox is still tried."""
        likely = likely_sandbox()
        early = self._start(likely) if likely else None
        try:
            found = find_sandbox()
            if early is not None and found == likely:
                self._process, early = early, None
            else:
                self._process = self._start(found)
        finally:  # what was started in another sandbox than the one that was tried never gets a video
            if early is not None:
                _finish(early)
        return self._process

    def _start(self, sandbox: Sandbox) -> subprocess.Popen[bytes]:
        command = sandbox.command(module_command(INSIDE), work=self._folder)
        with (self._folder / "log").open("wb") as log:
            return start_child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0)

    def _ask(self, process: subprocess.Popen[bytes], asked: dict[str, Any], seconds: float) -> _Answer:
        assert process.stdin is not None  # noqa: S101 - it was asked for
        try:
            process.stdin.write(json.dumps(asked).encode() + b"\n")
            line = self._line(process, time.monotonic() + seconds)
        except BrokenPipeError:
            line = b""
        self._check_closed()
        if line is None:
            self._end()
            raise VideoError("time_out", f"expected the video to be cut within {asked['seconds']:.0f} s, it was not")
        if not line:
            status = self._end()
            raise VideoError("killed", f"the process that cut it was ended ({_ended(status)})")
        try:
            told = json.loads(line)
            if told["status"] == 0:
                return _Answer.model_validate_json(told["said"])
        except (ValidationError, ValueError, KeyError, TypeError) as error:
            self._end()
            message = f"the process that cut it gave an answer that makes no sense: {type(error).__name__}"
            raise VideoError("crashed", message) from error
        return self._explain(told["status"])

    def _explain(self, status: int) -> _Answer:
        if status == -signal.SIGKILL:
            raise VideoError("killed", "the process that cut it was killed, as the kernel does when memory runs out")
        if -status in _CRASHES:
            raise VideoError("damaged", f"the decoder crashed on it ({_ended(status)})")
        raise VideoError("crashed", f"the program that cuts videos failed on it ({_ended(status)})", self._said())

    def _said(self) -> str:
        """Give the end of what the process said."""
        try:
            with os.fdopen(os.open(self._folder / "log", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - _LOG_BYTES))
                return log.read(_LOG_BYTES).decode("utf-8", "replace").strip()
        except OSError as error:
            return f"its log cannot be read: {error.strerror}"

    def _line(self, process: subprocess.Popen[bytes], deadline: float) -> bytes | None:
        """Read a line; empty where the process ended, None where it is late."""
        assert process.stdout is not None  # noqa: S101 - it was asked for
        found = bytearray()
        while not found.endswith(b"\n"):
            if not select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return None
            piece = os.read(process.stdout.fileno(), _READ_BYTES)
            found += piece
            if not piece or len(found) > 2 * MOST_ANSWER_BYTES:
                return b""
        return bytes(found).strip()

    def _check_closed(self) -> None:
        if self._closed:
            raise StoppedError("the shard was given up")

    def kill(self) -> None:
        """End the process, and with it what it is doing; to be called from another thread."""
        self._closed = True
        if (process := self._process) is not None:
            _kill(process)

    def _end(self) -> int:
        """End the process; all within the sandbox dies with it."""
        process, self._process = self._process, None
        return 0 if process is None else _finish(process)

    def __enter__(self) -> Slot:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None and self._process.stdin is not None and not self._closed:
            self._process.stdin.close()  # it ends by itself then, and what it used is counted
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_SECONDS)
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)


def _finish(process: subprocess.Popen[bytes]) -> int:
    _kill(process)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    return process.wait()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with its session: what is still building a sandbox does not die with it."""
    if process.returncode is not None:
        return  # its number may be somebody else's by now
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _ended(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


@cache
def tools() -> dict[str, str]:
    """Tell the builds that cut, for manifests."""
    shown = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-version"], capture_output=True, text=True, check=True)
    ffmpeg = shown.stdout.partition(" Copyright")[0].removeprefix("ffmpeg version ").strip()
    return {"ffmpeg": ffmpeg, "av": importlib.metadata.version("av")}
