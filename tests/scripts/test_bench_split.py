"""The bench of split, on a shard that is as small as can be."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import bench_split_large  # noqa: E402
import bench_split_quality  # noqa: E402
import bench_split_runs  # noqa: E402
import bench_split_shard  # noqa: E402


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def shard(cache: Path) -> Path:
    path = cache / "split-2-0.15" / "bench-000000.tar"
    bench_split_shard.make_shard(path, 2, 0.15)
    return path


def test_the_bench_runs_everything_in_turn_and_its_last_line_is_json(cache: Path, shard: Path):
    command = [sys.executable, SCRIPTS / "bench_split.py", "--rounds", "1", "--videos", "2", "--minutes", "0.15"]

    done = subprocess.run([*command, "--cache", cache], capture_output=True, text=True, check=False, timeout=200)

    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["exact_clips"] == 1
    assert abs(figures["ssim_delta"]) < 0.02
    assert 0.3 < figures["bytes_ratio"] < 2
    assert 0 < figures["of_limit"] < 1.5
    for name in ("wall_ratio", "cpu_ratio", "fused_ratio", "peak_rss_mb"):
        assert figures[name] > 0


def test_a_shard_is_made_once(shard: Path):
    made = shard.stat().st_mtime_ns

    bench_split_shard.make_shard(shard, 2, 0.15)

    assert shard.stat().st_mtime_ns == made


def test_no_two_videos_of_a_shard_are_equal(shard: Path):
    with tarfile.open(shard) as tar:
        videos = [tar.extractfile(member).read() for member in tar if member.name.endswith(".mp4")]  # type: ignore[union-attr]

    assert len(set(videos)) == 2


def test_lengths_sum_up_to_the_minutes_asked_for():
    lengths = bench_split_shard.lengths(24, 21.6)

    assert sum(lengths) == pytest.approx(21.6 * 60, abs=1)
    assert min(lengths) > 19.9
    assert max(lengths) < 120.1


def test_lost_frames_are_found(shard: Path, tmp_path: Path):
    bench_split_runs.run_reference(shard, tmp_path / "work", tmp_path / "out")
    (tmp_path / "clips").mkdir()
    clips = bench_split_quality.clips_in(sorted((tmp_path / "out").glob("*.tar")), tmp_path / "clips")
    videos = {}
    with tarfile.open(shard) as tar:
        for key in clips:
            videos[key] = tmp_path / f"{key}.mp4"
            videos[key].write_bytes(tar.extractfile(f"{key}.mp4").read())  # type: ignore[union-attr]

    assert bench_split_quality.judge(videos, clips).ssim > 0.95
    fewer = {key: paths[1:] or paths * 2 for key, paths in clips.items()}
    with pytest.raises(ValueError, match="frames in its clips"):
        bench_split_quality.judge(videos, fewer)


def test_a_third_of_a_large_shard_is_videos(tmp_path: Path):
    path = tmp_path / "large-000000.tar"

    count = bench_split_large.write_shard(path, [b"v" * 300_000, b"w" * 100_000], 0.004)

    with tarfile.open(path) as tar:
        sizes = {member.name: member.size for member in tar}
    videos = {name: size for name, size in sizes.items() if name.endswith(".mp4")}
    assert len(videos) == count
    assert sum(sizes.values()) > 0.004e9
    assert sum(videos.values()) / sum(sizes.values()) == pytest.approx(1 / 3, abs=0.01)
