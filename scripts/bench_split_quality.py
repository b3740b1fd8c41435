"""Judge clips: their likeness to the scaled source frame by frame, their bytes, and how many are exact."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg

from bench_split_runs import SCALE, VF

CLIP_SECONDS = 2
_EXACTLY = f"{SCALE}:flags=bicubic+accurate_rnd+bitexact"


@dataclass(frozen=True)
class Quality:
    """What the clips of a shard are like."""

    ssim: float
    """Mean over all frames, against the source as the reference scales it."""
    exact_ssim: float
    """The same against the source scaled with exact rounding, as ours does."""
    clips: int
    exact: int
    """Clips of two seconds to within a frame; the last of a video may be shorter."""
    size: int
    """Bytes of the MP4 files."""
    picture_size: int
    """Bytes of their pictures alone."""


@dataclass(frozen=True)
class _Clip:
    frames: int
    picture_size: int
    seconds: Fraction
    frame_seconds: Fraction


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


def judge(videos: Mapping[str, Path], clips: Mapping[str, Sequence[Path]]) -> Quality:
    """Judge the clips of videos. Raises ValueError where a frame of a source is in no clip, or in two."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        judged = list(pool.map(lambda key: _judge_video(videos[key], clips.get(key, ())), videos))
    frames = sum(count for _, count, _ in judged)
    ssim, exact_ssim = (sum(scores[which] * count for scores, count, _ in judged) / frames for which in (0, 1))
    read = [looked for _, _, looked in judged]
    return Quality(
        ssim,
        exact_ssim,
        clips=sum(map(len, read)),
        exact=sum(is_exact(clip, is_last=clip is video[-1]) for video in read for clip in video),
        size=sum(path.stat().st_size for paths in clips.values() for path in paths),
        picture_size=sum(clip.picture_size for video in read for clip in video),
    )


def _judge_video(source: Path, paths: Sequence[Path]) -> tuple[tuple[float, float], int, list[_Clip]]:
    clips, frames = [look_at(path) for path in paths], look_at(source).frames
    found = sum(clip.frames for clip in clips)
    if found != frames:
        raise ValueError(f"{source.stem}: expected {frames} frames in its clips, found {found}")
    return _compare(source, paths, frames), frames, clips


def look_at(path: Path) -> _Clip:
    """Read a clip's length and the sizes of its frames."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        sizes = [packet.size for packet in container.demux(stream) if packet.size]
        seconds = (stream.duration or 0) * (stream.time_base or Fraction(0))
        return _Clip(len(sizes), sum(sizes), seconds, 1 / Fraction(stream.average_rate or 1))


def is_exact(clip: _Clip, *, is_last: bool) -> bool:
    """Say whether a clip is as long as it should be, to within a frame."""
    over = clip.seconds - CLIP_SECONDS
    return over <= clip.frame_seconds if is_last else abs(over) <= clip.frame_seconds


def _compare(source: Path, paths: Sequence[Path], frames: int) -> tuple[float, float]:
    """Compare clips, each decoded by itself, with both scalings of their source: frame n with frame n."""
    counted = "settb=1/1000,setpts=N"
    graph = (
        f"[0:v]{counted},split[a1][a2];[1:v]split[s1][s2];[s1]{VF},{counted}[b1];"
        f"[s2]{VF.replace(SCALE, _EXACTLY)},{counted}[b2];[a1][b1]ssim@plain[o1];[a2][b2]ssim@exact[o2]"
    )
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "info", "-nostats", "-f", "rawvideo", "-pix_fmt", "yuv420p"]
    command += ["-video_size", "256x128", "-i", "-", "-i", str(source), "-filter_complex", graph]
    command += ["-map", "[o1]", "-map", "[o2]", "-fps_mode", "passthrough", "-f", "null", "-"]
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=told)
        assert process.stdin is not None  # noqa: S101 - it was asked for
        decoded = 0
        for picture in (picture for path in paths for picture in _pictures(path)):
            process.stdin.write(picture)
            decoded += 1
        process.stdin.close()
        status = process.wait()
        told.seek(0)
        words = told.read()
    found = dict(re.findall(r"\[ssim@(\w+) @ .*All:([\d.]+)", words))
    if status or decoded != frames or found.keys() != {"plain", "exact"}:
        raise ValueError(f"{source.stem}: expected {frames} frames to compare, found {decoded}: {words[-500:]}")
    return float(found["plain"]), float(found["exact"])


def _pictures(path: Path) -> Iterator[bytes]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="yuv420p").tobytes()
