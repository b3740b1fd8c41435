"""Compare memory and scratch of split on a large shard with those on one of a tenth of its size."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg

from bench_split_ours import split
from bench_split_runs import Measured
from bench_split_shard import add, make_shard

SECONDS = 15
"""Mean length of a video. Motion JPEG makes many bytes of them that cost little to cut: about 2 MB a second."""
PADDING = 2
"""Bytes beside each video, in a member that split skips, as a multiple of the video's."""
_VIDEOS = 4
_BLOCK = 1_000_000
# Small parts, so that the smaller shard too has several, and fills the window before them.
_CHEAP = {"preset": "ultrafast", "crf": 30, "max_reject_share": 0, "max_part_mb": 4}


def compare_sizes(gigabytes: float, cache: Path) -> dict[str, float]:
    """Split a shard of so many gigabytes and one of a tenth; give the peaks of both in megabytes, and their ratios."""
    with tempfile.TemporaryDirectory(prefix="large-", dir=cache) as name:
        folder = Path(name)
        videos = _rich_videos(folder, cache)
        small = _split_one(folder, videos, gigabytes / 10)
        large = _split_one(folder, videos, gigabytes)
    return {
        "gigabytes": gigabytes,
        "share_cut": round(1 / (1 + PADDING), 2),
        "wall_s": round(large.wall, 1),
        "peak_rss_mb": round(large.memory),
        "scratch_mb": round(large.scratch),
        "peak_rss_mb_of_a_tenth": round(small.memory),
        "scratch_mb_of_a_tenth": round(small.scratch),
        "peak_rss_ratio": round(large.memory / small.memory, 3),
        "scratch_ratio": round(large.scratch / small.scratch, 3),
    }


def _rich_videos(folder: Path, cache: Path) -> list[bytes]:
    shard = cache / "split-large" / "bench-000000.tar"
    make_shard(shard, _VIDEOS, _VIDEOS * SECONDS / 60)
    videos = []
    with tarfile.open(shard) as tar:
        for member in tar:
            if member.name.endswith(".mp4"):
                source, target = folder / "source.mp4", folder / "rich.mp4"
                content = tar.extractfile(member)
                source.write_bytes(content.read() if content else b"")
                command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", "-i", str(source)]
                command += ["-c:v", "mjpeg", "-qmin", "1", "-q:v", "1", "-pix_fmt", "yuvj420p", "-c:a", "copy"]
                subprocess.run([*command, str(target)], check=True)
                videos.append(target.read_bytes())
    return videos


def write_shard(path: Path, videos: Sequence[bytes], gigabytes: float) -> int:
    """Write a shard that repeats videos under other keys, beside members that are no videos; count the videos."""
    count = 0
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        while tar.offset < gigabytes * 1e9:
            key, video = f"large{count:05d}", videos[count % len(videos)]
            add(tar, f"{key}.mp4", video)
            add(tar, f"{key}.info.json", json.dumps({"id": key}).encode())
            block = os.urandom(_BLOCK)
            wanted = PADDING * len(video)
            add(tar, f"{key}.thumbnails", (block * (wanted // _BLOCK + 1))[:wanted])
            count += 1
    return count


def _split_one(folder: Path, videos: Sequence[bytes], gigabytes: float) -> Measured:
    source, lake = folder / "source", folder / "lake"
    source.mkdir()
    count = write_shard(source / "bench-000000.tar", videos, gigabytes)
    measured = split(folder, lake, {"source": f"file://{source}", **_CHEAP})
    if measured.status:
        raise SystemExit(f"split ended with {measured.status}")
    shutil.rmtree(source)
    shutil.rmtree(lake)
    print(
        f"{gigabytes:g} GB, {count} videos of {SECONDS} s on average: wall {measured.wall:.1f} s, "
        f"CPU {measured.cpu:.1f} s, memory {measured.memory:.0f} MB, scratch {measured.scratch:.0f} MB",
        flush=True,
    )
    return measured
