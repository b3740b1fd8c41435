"""Time split against the well-known shell pipeline, on one shard, in turn.

    .local/airflow/bin/python scripts/bench_split.py            # or: make bench-split
    .local/airflow/bin/python scripts/bench_split.py --large 6  # memory and scratch of 6 GB against those of 0.6 GB

The shard of 24 videos is made of real ones where there are any beside the checkout (../shared/data/raw), once, and kept
under .local/bench. Each round runs the reference, ours, the limit (the ffmpeg commands that ours runs, and nothing
else) and ours with features on the way (`fused`). The last line is JSON: medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
from bench_split_runs import VF, Measured, clips_in, reference, run
from bench_split_shard import make_shard

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / ".local" / "bench"
CLIP_SECONDS = 2
MOST_ROOM = 3_000_000_000
CORES = len(os.sched_getaffinity(0))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--videos", type=int, default=24)
    parser.add_argument("--minutes", type=float, default=17, help="of all videos together")
    parser.add_argument("--large", type=float, default=0, metavar="GB", help="compare memory and scratch instead")
    parser.add_argument("--reference", type=Path, nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.reference:
        reference(*asked.reference)
        return 0
    if asked.large:
        from bench_split_large import compare_sizes

        compare_sizes(asked.large)
        return 0
    shard = CACHE / f"split-{asked.videos}-{asked.minutes:g}" / "bench-000000.tar"
    say("making the shard" if not shard.exists() else f"the shard is there: {shard}")
    real = make_shard(shard, asked.videos, asked.minutes)
    place = Path("/dev/shm")  # noqa: S108  (a folder of one's own is made below)
    roomy = place.is_dir() and shutil.disk_usage(place).free > MOST_ROOM
    with tempfile.TemporaryDirectory(prefix="bench-split-", dir=place if roomy else None) as folder:
        figures = Bench(shard, Path(folder)).run(asked.rounds)
    print(json.dumps({**figures, "material": "real" if real else "generated", "rounds": asked.rounds}))
    return 0


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Bench:
    """The runs of a bench, in a folder of their own."""

    def __init__(self, shard: Path, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "source"
        self.source.mkdir()
        self.shard = self.source / shard.name
        shutil.copy(shard, self.shard)
        with tarfile.open(self.shard) as tar:
            keys = [name.partition(".")[0] for name in tar.getnames() if name.endswith(".mp4")]
            (folder / "videos").mkdir()
            for key in keys:
                content = tar.extractfile(f"{key}.mp4")
                (folder / "videos" / f"{key}.mp4").write_bytes(content.read() if content else b"")
        self.videos = {key: folder / "videos" / f"{key}.mp4" for key in keys}
        self.labels = folder / "labels.csv"
        self.labels.write_text("video_id,labels\n" + "".join(f"{key},bench\n" for key in keys))
        self.quality: dict[str, tuple[float, int, int, int]] = {}

    def run(self, rounds: int) -> dict[str, float]:
        """Run everything in turn; give the medians."""
        ways = {"reference": self.reference, "ours": self.ours, "limit": self.limit, "fused": self.fused}
        found: dict[str, list[Measured]] = {name: [] for name in ways}
        for number in range(rounds):
            for name, way in ways.items():
                measured = way()
                if measured.status:
                    raise SystemExit(f"{name} ended with {measured.status}")
                found[name].append(measured)
                clips = self.quality.get(name)
                about = f", {clips[1]} clips ({clips[3]} of them exact), {clips[2] / 1e6:.1f} MB" if clips else ""
                say(
                    f"round {number + 1}: {name}: wall {measured.wall:.1f} s, CPU {measured.cpu:.1f} s, memory "
                    f"{measured.memory:.0f} MB, scratch {measured.scratch:.0f} MB{about}"
                    + (f", SSIM {clips[0]:.5f}" if clips else "")
                )

        def ratio(above: str, below: str, field: str = "wall") -> float:
            pairs = zip(found[above], found[below], strict=True)
            return round(statistics.median(getattr(a, field) / getattr(b, field) for a, b in pairs), 3)

        theirs, ours = self.quality["reference"], self.quality["ours"]
        return {
            "wall_ratio": ratio("reference", "ours"),
            "cpu_ratio": ratio("reference", "ours", "cpu"),
            "ssim_delta": round(ours[0] - theirs[0], 5),
            "bytes_ratio": round(ours[2] / theirs[2], 3),
            "of_limit": ratio("limit", "ours"),
            "fused_ratio": ratio("fused", "ours"),
            "peak_rss_mb": round(statistics.median(one.memory for one in found["ours"])),
            "scratch_mb": round(statistics.median(one.scratch for one in found["ours"])),
        }

    def reference(self) -> Measured:
        """Run the pipeline that everybody knows."""
        folder = self.folder / "reference"
        folder.mkdir()
        measured = run([sys.executable, __file__, "--reference", str(self.shard), str(folder)], folder)
        self._judge("reference", sorted(folder.glob("*.tar")))
        shutil.rmtree(folder)
        return measured

    def ours(self) -> Measured:
        """Run split alone."""
        return self._split("ours", fused=False)

    def fused(self) -> Measured:
        """Run split with the features of its clips."""
        return self._split("fused", fused=True)

    def _split(self, name: str, *, fused: bool) -> Measured:
        lake = self.folder / name
        asked = self.folder / "asked.json"
        asked.write_text(
            json.dumps(
                {
                    "source": f"file://{self.source}",
                    "lake": f"file://{lake}",
                    "labels": f"file://{self.labels}",
                    "dataset": "bench",
                    "fused": fused,
                }
            )
        )
        roots = f"file://{self.folder}"
        environment = {**os.environ, "SHARDMILL_SOURCE_ROOTS": roots, "SHARDMILL_LAKE_ROOTS": roots}
        program = [sys.executable, "-m", "shardmill.cli"]
        subprocess.run([*program, "plan", str(asked), "--run", "bench"], env=environment, check=True, stdout=2)
        spec = f"file://{lake}/runs/bench/spec.json"
        subprocess.run([*program, "ingest", spec], env=environment, check=True, stdout=subprocess.DEVNULL)
        measured = run([*program, "split", spec], lake / "_scratch", environment)
        if fused:
            records = list((lake / "features").rglob("*.tfrecord"))
            measured.status = measured.status or int(not records)
        else:
            self._judge(name, sorted((lake / "clips").rglob("*.tar")))
        shutil.rmtree(lake)
        return measured

    def limit(self) -> Measured:
        """Run the ffmpeg commands that split runs, one video a core, the largest first, and nothing else."""
        from shardmill.adapters.video.probe import probe
        from shardmill.adapters.video.transcode import picture_command, sound_command
        from shardmill.core.grid import key_times, plan_clips
        from shardmill.specs.recipes import SplitRecipe

        commands = []
        folder = self.folder / "limit"
        folder.mkdir()
        for key, path in sorted(self.videos.items(), key=lambda item: -item[1].stat().st_size):
            video = probe(path, key)
            plans = plan_clips(video.ticks, video.time_base, Fraction(CLIP_SECONDS), video.last_ticks)
            keys = folder / f"{key}.keys"
            keys.write_text(",".join(key_times(plans, video.time_base)))
            end = (plans[-1].start + plans[-1].length) * video.time_base
            sound, _ = sound_command(video, plans[0].start * video.time_base, end)
            commands.append((folder / key, [picture_command(video, SplitRecipe(), keys), sound]))

        def work(item: tuple[Path, list[list[str]]]) -> None:
            path, both = item
            for command in both:
                with path.open("wb") as file:
                    subprocess.run(command, stdout=file, check=True)
            path.unlink()

        before = os.times()
        started = time.monotonic()
        with ThreadPoolExecutor(CORES) as pool:
            list(pool.map(work, commands))
        wall, after = time.monotonic() - started, os.times()
        shutil.rmtree(folder)
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return Measured(wall=wall, cpu=cpu)

    def _judge(self, name: str, parts: Sequence[Path]) -> None:
        """Look at the clips, once: their likeness to the scaled source, their bytes, and how many are exact."""
        if name in self.quality:
            return
        folder = self.folder / "judged"
        folder.mkdir()
        clips = clips_in(parts, folder)
        with ThreadPoolExecutor(CORES) as pool:
            scores = list(pool.map(lambda key: self._score(key, clips[key]), self.videos))
        frames = sum(count for _, count in scores)
        every = [path for paths in clips.values() for path in paths]
        exact = sum(_is_exact(path, is_last=path == paths[-1]) for paths in clips.values() for path in paths)
        size = sum(path.stat().st_size for path in every)
        self.quality[name] = (sum(ssim * count for ssim, count in scores) / frames, len(every), size, exact)
        shutil.rmtree(folder)

    def _score(self, key: str, clips: Sequence[Path]) -> tuple[float, int]:
        """Compare the clips of a video, one behind the other, with its scaled source, frame by frame."""
        listed = clips[0].with_suffix(".txt")
        listed.write_text("".join(f"file '{path.name}'\n" for path in clips))
        graph = f"[0:v]settb=1/1000,setpts=N[a];[1:v]{VF},settb=1/1000,setpts=N[b];[a][b]ssim=stats_file=-"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "info", "-nostats", "-nostdin", "-f", "concat", "-safe", "0"]
        command += ["-i", str(listed), "-i", str(self.videos[key]), "-filter_complex", graph]
        command += ["-an", "-fps_mode", "passthrough", "-f", "null", "-"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = re.search(r"SSIM .*All:([\d.]+)", done.stderr)
        compared = len(re.findall(r"^n:\d+", done.stdout, re.MULTILINE))
        with av.open(str(self.videos[key])) as container:
            frames = sum(1 for packet in container.demux(video=0) if packet.size)
        if found is None or compared != frames:
            raise SystemExit(f"{key}: expected {frames} frames to compare, found {compared}: {done.stderr[-500:]}")
        return float(found[1]), frames


def _is_exact(path: Path, *, is_last: bool) -> bool:
    """Say whether a clip lasts two seconds to within a frame; a video's last may be shorter."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        length = float((stream.duration or 0) * (stream.time_base or 0))
        frame = 1 / float(stream.average_rate or 1)
    return length <= CLIP_SECONDS + frame if is_last else abs(length - CLIP_SECONDS) <= frame


if __name__ == "__main__":
    sys.exit(main())
