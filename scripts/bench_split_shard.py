"""Make the shard that the split is timed on: videos such as YouTube serves at 360p, out of real pictures and sound."""

from __future__ import annotations

import io
import json
import random
import re
import subprocess
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg

RAW = Path(__file__).resolve().parents[2] / "shared" / "data" / "raw"
_GENERATED = ("testsrc2=size=640x360:rate=30", "mandelbrot=size=640x360:rate=30", "life=size=640x360:rate=30:ratio=.4")
_STILL_OR_TINY = ("1smpTe_2997", "9carphone_d", "9card_2sec_", "-HcEoSYh6xM")
_SIZES, _RATES = ((640, 360), (640, 360), (480, 360), (640, 272)), (24, 25, 30)
_SEED = 8
_SHORTEST, _LONGEST = 20, 120


@dataclass(frozen=True)
class Scene:
    """Something that a video can be put together from."""

    source: tuple[str, ...]
    """ffmpeg's arguments that open it."""
    seconds: float


@dataclass(frozen=True)
class Material:
    pictures: Sequence[Scene]
    sounds: Sequence[Scene]
    real: bool


def find_material(folder: Path) -> Material:
    """Unpack the real videos into a folder; generated ones where there are none."""
    tars = sorted(RAW.glob("*.tar"))
    if not tars:
        generated = [Scene(("-f", "lavfi", "-t", "20", "-i", f"{one},noise=alls=12:allf=t"), 20) for one in _GENERATED]
        sound = Scene(("-f", "lavfi", "-t", "20", "-i", "anoisesrc=color=pink:amplitude=.3:sample_rate=44100"), 20)
        return Material(generated, [sound], real=False)
    pictures: list[Scene] = []
    sounds: list[Scene] = []
    for tar in tars:
        with tarfile.open(tar) as archive:
            for member in archive:
                if not member.name.endswith(".mp4") or member.name.startswith(_STILL_OR_TINY):
                    continue
                path = folder / f"source-{len(pictures):02d}.mp4"
                path.write_bytes(archive.extractfile(member).read())  # type: ignore[union-attr]
                scene, has_sound = _look_at(path)
                pictures.append(scene)
                sounds += [scene] if has_sound else []
    return Material(pictures, sounds, real=True)


def _look_at(path: Path) -> tuple[Scene, bool]:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", path]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stderr  # it wants an output too
    hours, minutes, seconds = re.search(r"Duration: (\d+):(\d+):([\d.]+)", told).groups()  # type: ignore[union-attr]
    return Scene(("-i", str(path)), int(hours) * 3600 + int(minutes) * 60 + float(seconds)), "Audio:" in told


def lengths(videos: int, minutes: float) -> list[float]:
    """Give lengths in seconds between 20 and 120 (or all shorter) that sum up to so many minutes."""
    weights = [_SHORTEST + (_LONGEST - _SHORTEST) * (number / max(1, videos - 1)) ** 2 for number in range(videos)]
    scale = minutes * 60 / sum(weights)
    found = [round(weight * scale, 2) for weight in weights]
    random.Random(_SEED).shuffle(found)  # noqa: S311 - the same order each time is what is wanted
    return found


def make_video(material: Material, number: int, seconds: float, path: Path) -> None:
    """Encode one video: scenes cut, flipped, cropped, sped up or slowed down, one behind the other."""
    chance = random.Random(f"{_SEED}:{number}")  # noqa: S311
    (width, height), rate = chance.choice(_SIZES), chance.choice(_RATES)
    inputs: list[str] = []
    chains: list[str] = []
    left = seconds
    while left > 0:
        scene = chance.choice(material.pictures)
        speed, zoom, x, y = chance.uniform(0.75, 1.3), chance.uniform(0.7, 1), chance.random(), chance.random()
        tone = f"eq=contrast={chance.uniform(0.9, 1.1):.3f}:saturation={chance.uniform(0.7, 1.2):.3f}"
        flip = chance.choice(("hflip", "null"))
        chains.append(
            f"[{len(chains)}:v]setpts=PTS/{speed:.3f},fps={rate},crop=iw*{zoom:.3f}:ih*{zoom:.3f}:(iw-ow)*{x:.3f}"
            f":(ih-oh)*{y:.3f},scale={width}:{height}:force_original_aspect_ratio=increase:out_range=tv,"
            f"crop={width}:{height},setsar=1,{flip},{tone},format=yuv420p,setparams=range=tv[v{len(chains)}]"
        )
        inputs += scene.source
        left -= scene.seconds / speed - 1 / rate
    shown = len(chains)
    sounds: list[str] = []
    left = seconds
    while left > 0:
        scene, tempo = chance.choice(material.sounds), chance.uniform(0.8, 1.25)
        sounds.append(
            f"[{shown + len(sounds)}:a]atempo={tempo:.3f},aformat=sample_rates=44100:channel_layouts=stereo:"
            f"sample_fmts=fltp[a{len(sounds)}]"
        )
        inputs += scene.source
        left -= scene.seconds / tempo
    every = "".join(f"[v{one}]" for one in range(shown)) + f"concat=n={shown}:v=1:a=0[v]"
    heard = "".join(f"[a{one}]" for one in range(len(sounds))) + f"concat=n={len(sounds)}:v=0:a=1[a]"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", "-filter_complex_threads", "1"]
    command += [*inputs, "-filter_complex", ";".join([*chains, *sounds, every, heard]), "-map", "[v]", "-map", "[a]"]
    command += ["-t", f"{seconds}", "-c:v", "libx264", "-preset", "medium", "-crf", "23", "-threads", "1"]
    command += ["-g", str(chance.choice((250, 5 * rate))), "-c:a", "aac", "-b:a", "96k"]
    command += ["-movflags", "+faststart", "-map_metadata", "-1", "-fflags", "+bitexact", str(path)]
    subprocess.run(command, check=True)


def make_shard(shard: Path, videos: int, minutes: float) -> bool:
    """Make a shard unless it is there; say whether its pictures are real."""
    note = shard.with_suffix(".json")
    if not note.exists():
        shard.parent.mkdir(parents=True, exist_ok=True)
        folder = shard.with_suffix(".work")
        folder.mkdir(exist_ok=True)
        material = find_material(folder)
        names = [f"bench{number:03d}_{_SEED}" for number in range(videos)]
        with ThreadPoolExecutor() as pool:
            made = pool.map(
                lambda one: make_video(material, one[0], one[1], folder / f"{names[one[0]]}.mp4"),
                enumerate(lengths(videos, minutes)),
            )
            list(made)
        with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as tar:
            for name in names:
                info = json.dumps({"id": name, "title": f"Benchmark {name}", "labels": ["bench"]}).encode()
                add(tar, f"{name}.mp4", (folder / f"{name}.mp4").read_bytes())
                add(tar, f"{name}.info.json", info)
        subprocess.run(["rm", "-rf", str(folder)], check=True)
        note.write_text(json.dumps({"real": material.real}))
    return bool(json.loads(note.read_text())["real"])


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a member."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
