"""Run and measure commands; as a program of its own, be the well-known shell pipeline: ``… SHARD WORK OUT``."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg

from footprint import family, pss_bytes

SCALE = "scale=256:128:force_original_aspect_ratio=decrease"
VF = f"{SCALE},pad=256:128:(ow-iw)/2:(oh-ih)/2"
_SECONDS_BETWEEN = 3.0
"""Between two looks at memory and scratch: once a second it took 1.2 % of two cores."""
_FIRST_LOOK = 1.0
_PART_BYTES, _PART_CLIPS = 256_000_000, 65_536


@dataclass
class Measured:
    """What a run took."""

    wall: float = 0.0
    """Seconds."""
    cpu: float = 0.0
    """Seconds, user and system, of all its processes."""
    memory: float = 0.0
    """Peak of the proportional set sizes of all its processes together, in MB."""
    scratch: float = 0.0
    """Peak of what lay in its scratch folder, in MB."""
    status: int = 0


@contextmanager
def watched(pid: int, scratch: Path, seconds: float = _SECONDS_BETWEEN) -> Iterator[Measured]:
    """Measure memory and scratch of a process and its descendants for the time of the block, every few seconds."""
    measured, ended = Measured(), threading.Event()

    def watch() -> None:
        pause = 0.0
        while not ended.wait(pause):
            pause = seconds if pause else min(_FIRST_LOOK, seconds)
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


def run_reference(shard: Path, work: Path, out: Path) -> Measured:
    """Run the reference in a process of its own, which imports next to nothing."""
    work.mkdir()
    out.mkdir()
    return run([sys.executable, __file__, str(shard), str(work), str(out)], work)


def reference(shard: Path, work: Path, out: Path) -> int:
    """Do what `tarp proc -m extract-segments.sh - -o - | tarp split - -o out-%06d.tar` does; count the clips.

    Each sample's files go into a folder of its own; the script runs there, ffmpeg with threads as it likes; what it
    leaves is packed.
    """
    script = Path(__file__).with_name("bench_split_reference.sh")
    part, clips, parts = None, 0, 0
    for key, files in _samples(shard):
        folder = work / "sample"
        folder.mkdir()
        for suffix, content in files.items():
            (folder / f"sample.{suffix}").write_bytes(content)
        subprocess.run(["bash", str(script), imageio_ffmpeg.get_ffmpeg_exe(), VF], cwd=folder, check=True)
        for path in sorted(folder.glob("sample-*.mp4")):
            if part is None or clips % _PART_CLIPS == 0 or part.offset >= _PART_BYTES:
                if part is not None:
                    part.close()
                part = tarfile.open(out / f"out-{parts:06d}.tar", "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
                parts += 1
            number = path.stem.removeprefix("sample-")
            for suffix in ("mp4", "mp4.json", "info.json"):
                _add(part, f"{key}/{number}.{suffix}", path.with_suffix(f".{suffix}").read_bytes())
            clips += 1
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    if part is not None:
        part.close()
    return clips


def _samples(shard: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    key, files = "", dict[str, bytes]()
    with tarfile.open(shard, "r|") as tar:
        for member in tar:
            found, _, suffix = member.name.partition(".")
            if files and found != key:
                yield key, files
                files = {}
            content = tar.extractfile(member)
            key, files[suffix] = found, content.read() if content else b""
    if files:
        yield key, files


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


if __name__ == "__main__":
    reference(*map(Path, sys.argv[1:4]))
