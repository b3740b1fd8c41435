"""Run a command, or the well-known shell pipeline, and measure it."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
from footprint import family, pss_bytes

SECONDS_BETWEEN = 0.2
VF = "scale=256:128:force_original_aspect_ratio=decrease,pad=256:128:(ow-iw)/2:(oh-ih)/2"
_PART_BYTES, _PART_CLIPS = 256_000_000, 10_000


@dataclass
class Measured:
    """What a run took."""

    wall: float = 0.0
    """Seconds."""
    cpu: float = 0.0
    """Seconds of all its processes."""
    memory: float = 0.0
    """Peak of the proportional set sizes of all its processes together, in MB."""
    scratch: float = 0.0
    """Peak of what lay in its scratch folder, in MB."""
    status: int = 0


@contextmanager
def watched(pid: int, scratch: Path) -> Iterator[Measured]:
    """Measure memory and scratch of a process and its descendants for the time of the block."""
    measured, ended = Measured(), threading.Event()

    def watch() -> None:
        while not ended.wait(SECONDS_BETWEEN):
            memory = sum(pss_bytes(one) for one in family(pid))
            measured.memory = max(measured.memory, memory / 1e6)
            measured.scratch = max(measured.scratch, _bytes_in(scratch) / 1e6)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield measured
    finally:
        ended.set()
        thread.join()


def _bytes_in(folder: Path) -> int:
    found = 0
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return 0
    for entry in entries:
        try:
            is_folder = entry.is_dir(follow_symlinks=False)
            found += _bytes_in(Path(entry.path)) if is_folder else entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue
    return found


def run(command: Sequence[str], scratch: Path, environment: Mapping[str, str] | None = None) -> Measured:
    """Run a command; its output goes to this process' stderr."""
    started = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=2)
    with watched(process.pid, scratch) as measured:
        _, status, usage = os.wait4(process.pid, 0)
        measured.wall = time.monotonic() - started
    process.returncode = measured.status = os.waitstatus_to_exitcode(status)
    measured.cpu = usage.ru_utime + usage.ru_stime
    return measured


def reference(shard: Path, folder: Path) -> None:
    """Do what `tarp proc -m extract-segments.sh - -o - | tarp split - -o out-%06d.tar` does, sample by sample.

    Each sample's files go into a folder of its own; ffmpeg runs there with threads as it likes; what it leaves is
    packed. The script's call of ffprobe is left out, to the reference's favour: no wheel has one.
    """
    part, clips, number = None, 0, 0
    with tarfile.open(shard, "r|") as tar:
        for key, files in _samples(tar):
            inner = folder / "sample"
            inner.mkdir()
            for suffix, content in files.items():
                (inner / f"sample.{suffix}").write_bytes(content)
            command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-i", "sample.mp4", "-vf", VF]
            command += ["-c:a", "copy", "-f", "segment", "-segment_time", "2", "-reset_timestamps", "1"]
            command += ["-segment_format_options", "movflags=+faststart", "sample-%06d.mp4"]
            subprocess.run(command, cwd=inner, check=True)
            for path in sorted(inner.glob("sample-*.mp4")):
                if part is None or clips >= _PART_CLIPS or part.offset >= _PART_BYTES:
                    if part is not None:
                        part.close()
                    part = tarfile.open(folder / f"out-{number:06d}.tar", "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
                    clips, number = 0, number + 1
                _add(part, f"{key}/{path.stem[7:]}.mp4", path.read_bytes())
                _add(part, f"{key}/{path.stem[7:]}.info.json", files.get("info.json", b"{}"))
                clips += 1
            subprocess.run(["rm", "-rf", str(inner)], check=True)
    if part is not None:
        part.close()


def _samples(tar: tarfile.TarFile) -> Iterator[tuple[str, dict[str, bytes]]]:
    key, files = "", dict[str, bytes]()
    for member in tar:
        found, _, suffix = member.name.partition(".")
        if files and found != key:
            yield key, files
            files = {}
        content = tar.extractfile(member)
        key, files[suffix] = found, content.read() if content else b""
    yield key, files


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def clips_in(parts: Sequence[Path], folder: Path) -> dict[str, list[Path]]:
    """Unpack the clips of parts, by video, in order."""
    found: dict[str, list[Path]] = {}
    for part in parts:
        with tarfile.open(part) as tar:
            for member in tar:
                key, _, name = member.name.rpartition("/")
                if not name.endswith(".mp4"):
                    continue
                path = folder / f"{key}-{name}"
                content = tar.extractfile(member)
                path.write_bytes(content.read() if content else b"")
                found.setdefault(key, []).append(path)
    return {key: sorted(paths) for key, paths in found.items()}
