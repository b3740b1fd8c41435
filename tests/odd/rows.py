"""What a row of the odd inputs is: how it is made, and what must become of it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import imageio_ffmpeg


@dataclass(frozen=True)
class Canary:
    """What no input may reach, though many name it."""

    file: Path
    """A file outside, with a text of its own."""
    video: Path
    """A video outside, which a playlist could play."""
    tcp: int
    """Port of a server on 127.0.0.1 that notes who connects."""
    udp: int
    """Port of a socket on 127.0.0.1 that notes what arrives."""


@dataclass
class Kitchen:
    """Where inputs are made."""

    folder: Path
    canary: Canary
    _numbers: count[int] = field(default_factory=count)

    def path(self, suffix: str, content: bytes | None = None) -> Path:
        """Give a path that nobody used before, with a file where there is content."""
        path = self.folder / f"{next(self._numbers):04d}.{suffix}"
        if content is not None:
            path.write_bytes(content)
        return path

    def ffmpeg(self, *arguments: str | Path, suffix: str = "mp4") -> bytes:
        """Run the wheel's ffmpeg; give the file that it writes."""
        path = self.path(suffix)
        run_ffmpeg(*arguments, path)
        return path.read_bytes()


def run_ffmpeg(*arguments: str | Path) -> bytes:
    """Run the wheel's ffmpeg; give what it writes to stdout."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", "-threads", "1", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, timeout=60, env={"SVT_LOG": "0"})
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


Make = Callable[[Kitchen], bytes]


@dataclass(frozen=True)
class Becomes:
    """It is published."""

    clips: int
    frames: int
    sound: bool = False
    """Whether its first clip has sound."""

    def __str__(self) -> str:
        clips = "1 clip" if self.clips == 1 else f"{self.clips} clips"
        frames = "1 frame" if self.frames == 1 else f"{self.frames} frames"
        return f"{clips}, {frames}, {'with' if self.sound else 'without'} sound"


@dataclass(frozen=True)
class Refused:
    """It becomes a reject; the rest of its shard is published."""

    reason: str

    def __str__(self) -> str:
        return f"reject `{self.reason}`"


@dataclass(frozen=True)
class Ignored:
    """It is no sample, and in nobody's way."""

    def __str__(self) -> str:
        return "passed over"


@dataclass(frozen=True)
class BreaksShard:
    """The shard fails and commits nothing: nobody knows what else it held."""

    error: str
    """Name of the exception."""
    words: str = ""
    """What the message says, as a regular expression."""

    def __str__(self) -> str:
        return f"the shard fails: `{self.error}`"


@dataclass(frozen=True)
class Odd:
    """A file that claims to be a video."""

    what: str
    """The input, in words."""
    make: Make
    fate: Becomes | Refused
    why: str
    suffix: str = "mp4"
    """Of its name in the shard."""
    fault: str = ""
    """Why the product does not do so yet."""


@dataclass(frozen=True)
class OddMember:
    """Members of a tar that are odd for their headers, whatever they hold."""

    what: str
    blocks: Callable[[bytes], bytes]
    """Gives the members as bytes of the tar; the argument is a good video."""
    fates: dict[str, tuple[Becomes | Refused | Ignored, ...]]
    """What becomes of the samples of each key; the key of a reject is as it stands in the manifest."""
    why: str
    fault: str = ""


@dataclass(frozen=True)
class OddTar:
    """A tar that is not whole, or not a tar."""

    what: str
    change: Callable[[bytes, bytes], bytes]
    """Gives the tar, from a tar of two good videos and from one good video."""
    fate: BreaksShard
    why: str
    fault: str = ""


def cooked(what: str, *arguments: str, fate: Becomes | Refused, why: str, suffix: str = "mp4", fault: str = "") -> Odd:
    """Describe an input that one run of ffmpeg makes."""

    def make(kitchen: Kitchen) -> bytes:
        return kitchen.ffmpeg(*arguments, suffix=suffix)

    return Odd(what, make, fate, why, suffix, fault)
