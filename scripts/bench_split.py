"""Time split against the well-known shell pipeline, on one shard, in turn.

    .local/airflow/bin/python scripts/bench_split.py            # or: make bench-split
    .local/airflow/bin/python scripts/bench_split.py --large 6  # memory and scratch of 6 GB against those of 0.6 GB

The shard of 24 videos is made of real ones where there are any beside the checkout (../shared/data/raw), once, and kept
under .local/bench. Each round runs the reference, ours, the limit (the ffmpeg commands that ours runs, and nothing
else) and ours with features on the way (`fused`). The last line is JSON: medians over the rounds of the ratios within
each. `ssim_delta` is against the source as the reference scales it, `ssim_delta_exact` against exact rounding.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

from bench_split_ours import split
from bench_split_quality import CLIP_SECONDS, Quality, clips_in, judge
from bench_split_runs import Measured, run_reference
from bench_split_shard import make_shard

CACHE = Path(__file__).resolve().parent.parent / ".local" / "bench"
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of one's own is made below it
MOST_ROOM = 3_000_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--videos", type=int, default=24)
    parser.add_argument("--minutes", type=float, default=21.6, help="of all videos together")
    parser.add_argument("--large", type=float, default=0, metavar="GB", help="compare memory and scratch instead")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the shard is kept")
    parser.add_argument("--keep", action="store_true", help="keep the folder of the runs")
    asked = parser.parse_args()
    asked.cache.mkdir(parents=True, exist_ok=True)
    if asked.large:
        from bench_split_large import compare_sizes

        print(json.dumps(compare_sizes(asked.large, asked.cache)))
        return 0
    shard = asked.cache / f"split-{asked.videos}-{asked.minutes:g}" / "bench-000000.tar"
    say(f"the shard is there: {shard}" if shard.exists() else "making the shard")
    real = make_shard(shard, asked.videos, asked.minutes)
    if not real:
        say("the real videos are not there: the material is generated, and the figures say less")
    with room(keep=asked.keep) as folder:
        figures = Bench(shard, folder).run(asked.rounds)
    print(json.dumps({**figures, "material": "real" if real else "generated", "rounds": asked.rounds}))
    return 0


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def room(*, keep: bool) -> Iterator[Path]:
    """Lend a folder, in memory where there is room."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MOST_ROOM
    folder = Path(tempfile.mkdtemp(prefix="bench-split-", dir=MEMORY if roomy else None))
    try:
        yield folder
    finally:
        if keep:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder)


class Bench:
    """The runs of a bench, in a folder of their own."""

    def __init__(self, shard: Path, folder: Path) -> None:
        self.folder, self.source = folder, folder / "source"
        self.source.mkdir()
        (folder / "videos").mkdir()
        self.shard = self.source / shard.name
        shutil.copy(shard, self.shard)
        self.videos: dict[str, Path] = {}
        with tarfile.open(self.shard) as tar:
            for member in tar:
                content = tar.extractfile(member)
                if member.name.endswith(".mp4") and content is not None:
                    path = folder / "videos" / member.name
                    path.write_bytes(content.read())
                    self.videos[path.stem] = path
        self.labels = folder / "labels.csv"
        self.labels.write_text("video_id,labels\n" + "".join(f"{key},bench\n" for key in self.videos))
        self.quality: dict[str, Quality] = {}

    def run(self, rounds: int) -> dict[str, object]:
        """Run everything in turn; give the medians."""
        ways = {"reference": self.reference, "ours": self.ours, "limit": self.limit, "fused": self.fused}
        found: dict[str, list[Measured]] = {name: [] for name in ways}
        for number in range(1, rounds + 1):
            for name, way in ways.items():
                load = os.getloadavg()[0]
                measured = way()
                if measured.status:
                    raise SystemExit(f"{name} ended with {measured.status}")
                found[name].append(measured)
                say(f"round {number}: {name}: {_tell(measured)}, load before {load:.1f}")
        for name in ("reference", "ours"):
            self.quality[name] = self._judge(name)
            say(f"{name}: {_tell_quality(self.quality[name])}")
        return self._figures(found)

    def _figures(self, found: dict[str, list[Measured]]) -> dict[str, object]:
        def ratio(above: str, below: str, field: str = "wall") -> float:
            pairs = zip(found[above], found[below], strict=True)
            return round(statistics.median(getattr(a, field) / getattr(b, field) for a, b in pairs), 3)

        theirs, ours = self.quality["reference"], self.quality["ours"]
        return {
            "wall_ratio": ratio("reference", "ours"),
            "cpu_ratio": ratio("reference", "ours", "cpu"),
            "ssim_delta": round(ours.ssim - theirs.ssim, 5),
            "ssim_delta_exact": round(ours.exact_ssim - theirs.exact_ssim, 5),
            "bytes_ratio": round(ours.size / theirs.size, 3),
            "picture_bytes_ratio": round(ours.picture_size / theirs.picture_size, 3),
            "exact_clips": round(ours.exact / ours.clips, 3),
            "exact_clips_of_reference": round(theirs.exact / theirs.clips, 3),
            "of_limit": ratio("limit", "ours"),
            "fused_ratio": ratio("fused", "ours"),
            "peak_rss_mb": round(statistics.median(one.memory for one in found["ours"])),
            "scratch_mb": round(statistics.median(one.scratch for one in found["ours"])),
        }

    def reference(self) -> Measured:
        """Run the pipeline that everybody knows."""
        work, out = self.folder / "work", self.folder / "reference"
        measured = run_reference(self.shard, work, out)
        self._keep("reference", out)
        shutil.rmtree(work)
        return measured

    def ours(self) -> Measured:
        """Run split alone."""
        return self._split("ours", fused=False)

    def fused(self) -> Measured:
        """Run split with the features of its clips."""
        return self._split("fused", fused=True)

    def _split(self, name: str, *, fused: bool) -> Measured:
        lake = self.folder / name
        source, labels = (f"file://{path}" for path in (self.source, self.labels))
        asked = {"source": source, "labels": labels, "fused": fused, "max_reject_share": 0}
        measured = split(self.folder, lake, asked)
        if not measured.status and fused and not any((lake / "features").rglob("*.tfrecord")):
            raise SystemExit("fused: expected records in the lake, found none")
        if not measured.status and not fused:
            self._keep(name, lake / "clips")
        shutil.rmtree(lake)
        return measured

    def limit(self) -> Measured:
        """Run the ffmpeg commands that split runs, one video a core, the largest first, and nothing else."""
        folder = self.folder / "limit"
        folder.mkdir()
        largest_first = sorted(self.videos.values(), key=lambda path: -path.stat().st_size)
        commands = [(folder / f"{path.stem}.nut", _commands(path, folder)) for path in largest_first]

        def work(item: tuple[Path, list[list[str]]]) -> None:
            for command in item[1]:
                with item[0].open("wb") as file:
                    subprocess.run(command, stdout=file, check=True)
            item[0].unlink()

        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(work, commands))
        wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        shutil.rmtree(folder)
        return Measured(wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)

    def _keep(self, name: str, out: Path) -> None:
        """Put what a run made aside: to judge it between the runs would heat the machine for the next one only."""
        kept = self.folder / f"made-{name}"
        shutil.rmtree(kept, ignore_errors=True)
        out.rename(kept)

    def _judge(self, name: str) -> Quality:
        """Look at the clips in the tars that a way made last."""
        folder = self.folder / "judged"
        folder.mkdir()
        quality = judge(self.videos, clips_in(sorted((self.folder / f"made-{name}").rglob("*.tar")), folder))
        shutil.rmtree(folder)
        return quality


def _commands(path: Path, folder: Path) -> list[list[str]]:
    from shardmill.adapters.video.probe import probe
    from shardmill.adapters.video.transcode import picture_command, sound_command
    from shardmill.core.grid import key_times, plan_clips
    from shardmill.specs.recipes import SplitRecipe

    video = probe(path, path.name)
    plans = plan_clips(video.ticks, video.time_base, Fraction(CLIP_SECONDS), video.last_ticks)
    keys, times = folder / f"{path.stem}.keys", key_times(plans, video.time_base)
    keys.write_text(",".join(times))
    recipe = SplitRecipe()
    picture = picture_command(video, recipe, keys if times else None)
    end = (plans[-1].start + plans[-1].length) * video.time_base
    sound, _ = sound_command(video, plans[0].start * video.time_base, end, recipe)
    return [picture, sound]


def _tell(measured: Measured) -> str:
    told = f"wall {measured.wall:.1f} s, CPU {measured.cpu:.1f} s"
    watched = f", memory {measured.memory:.0f} MB, scratch {measured.scratch:.0f} MB" if measured.memory else ""
    return told + watched


def _tell_quality(quality: Quality) -> str:
    size, pictures = quality.size / 1e6, quality.picture_size / 1e6
    return (
        f"{quality.clips} clips, {quality.exact} of them exact, {size:.2f} MB of which {pictures:.2f} are pictures, "
        f"SSIM {quality.ssim:.5f} (with exact rounding {quality.exact_ssim:.5f})"
    )


if __name__ == "__main__":
    sys.exit(main())
