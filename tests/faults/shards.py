"""A shard of a few small videos with sound, as the faults meet it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

LABELS = ("red", "green", "blue", "grey")


def make_shard(folder: Path, run_ffmpeg: Callable[..., None], videos: int = 3) -> tuple[Path, dict[str, list[str]]]:
    """Write ``faults-000007.tar`` with videos of three seconds. Returns the file and each video's labels."""
    folder.mkdir(parents=True, exist_ok=True)
    path, labels = folder / "faults-000007.tar", {}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(videos):
            key = f"video{number:03d}"
            film = folder / f"{key}.mp4"
            picture = f"testsrc2=size=64x48:rate=8:duration=3,hue=h={number * 40}"
            sound = f"sine=frequency={300 + 100 * number}:sample_rate=16000:duration=3"
            run_ffmpeg("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, "-shortest", film)
            content = film.read_bytes()
            member = tarfile.TarInfo(f"{key}.mp4")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            labels[key] = [LABELS[number % len(LABELS)]]
    return path, labels
