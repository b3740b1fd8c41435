"""Generate the demo's sample: shards of labelled synthetic videos in the layout of sharded YouTube-8M downloads."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import string
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from os import sched_getaffinity
from pathlib import Path

from shardmill.core.layout import shard_name
from shardmill.core.sample_scenes import CHECKERBOARD, SKIES, SOUNDS, Scene
from shardmill.core.subsets import subset_of

VERSION = 1
"""Raised by hand when the sample's content changes: a folder with an older one is written anew."""
VALIDATION_SHARE = 0.2
CHECKERBOARD_SHARE = 0.4
MARKER = ".complete"
ODD_VIDEOS = 5
_KEY_CHARACTERS = string.ascii_letters + string.digits + "-_"
_TITLES = (
    "A day in <i>{place}</i>",
    "{place} & {thing}, part {number}",
    '"{thing}" – live from {place}',
    "{thing} #{number} <b>HD</b>",
    "Ein Tag in {place}; {thing} für alle",
)
_PLACES = ("the valley", "Łódź", "the harbour", "São Paulo", "the old town", "大阪")
_THINGS = ("lights", "a walk", "street life", "test footage", "the garden", "a long evening")


@dataclass(frozen=True)
class _Entry:
    """A video of the sample."""

    key: str
    scene: Scene
    is_corrupt: bool = False


def make_sample(
    folder: Path, *, videos: int = 300, shards: int = 6, seed: int = 0, seconds: tuple[float, float] = (6.0, 8.0)
) -> None:
    """Write ``sample-NNNNNN.tar`` and ``labels.csv`` into a folder, unless it holds this very sample.

    Beside the videos stand five odd ones: a corrupt one, one without sound, one of variable frame rate, one shorter
    than a clip, one in portrait. An interrupted call leaves no marker, and the next one writes everything anew.

    Args:
        videos: how many, without the odd ones; a fifth of them are validation videos by the hash of their key.
        seconds: shortest and longest video.
    """
    asked = json.dumps({"version": VERSION, "videos": videos, "shards": shards, "seed": seed, "seconds": seconds})
    marker = folder / MARKER
    if marker.is_file() and marker.read_text() == asked:
        return
    folder.mkdir(parents=True, exist_ok=True)
    marker.unlink(missing_ok=True)
    for old in folder.glob("sample-??????.tar"):
        old.unlink()
    entries = _entries(videos, seconds, random.Random(seed))  # noqa: S311
    _write_shards(folder, entries, shards, seed)
    _replace(folder / "labels.csv", _labels_csv(entries))
    _replace(marker, asked)


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text, encoding="utf-8", newline="")
    unfinished.replace(path)


def _entries(videos: int, seconds: tuple[float, float], chance: random.Random) -> list[_Entry]:
    validation = round(videos * VALIDATION_SHARE)
    chosen: list[_Entry] = []
    for subset, count in (("train", videos - validation), ("validation", validation)):
        for labels in _label_sets(count, chance):
            key = _new_key(subset, {entry.key for entry in chosen}, chance)
            scene = Scene(chance.getrandbits(32), labels, seconds=round(chance.uniform(*seconds), 2))
            chosen.append(_Entry(key, scene))
    chosen.extend(_odd_entries({entry.key for entry in chosen}, chance))
    chance.shuffle(chosen)
    return chosen


def _label_sets(count: int, chance: random.Random) -> list[tuple[str, ...]]:
    """Give every combination of sky and sound about equally often: small subsets stay balanced."""
    grid = [(sky, sound) for sky in SKIES for sound in SOUNDS]
    rows = [grid[index % len(grid)] for index in range(count)]
    boards = [index < round(count * CHECKERBOARD_SHARE) for index in range(count)]
    chance.shuffle(rows)
    chance.shuffle(boards)
    return [(CHECKERBOARD, *row) if board else row for row, board in zip(rows, boards, strict=True)]


def _new_key(subset: str, taken: set[str], chance: random.Random) -> str:
    """Draw a key such as YouTube's, of which the hash falls into the subset; one in eight begins with a dash."""
    while True:
        key = "".join(chance.choices(_KEY_CHARACTERS, k=11))
        if chance.random() < 1 / 8:
            key = "-" + key[1:]
        if subset_of(key, VALIDATION_SHARE) == subset and key not in taken:
            return key


def _odd_entries(taken: set[str], chance: random.Random) -> Iterator[_Entry]:
    """Make the odd videos; for training, so that they count in no metric."""
    plain = Scene(0, ("sunrise", "drum"), seconds=6.0)
    gaps = [chance.choice((1, 1, 2, 5)) / 12 for _ in range(70)]
    times = tuple(round(sum(gaps[:index]), 4) for index in range(len(gaps)) if sum(gaps[:index]) < plain.seconds)
    scenes = (
        (plain, True),
        (replace(plain, labels=(CHECKERBOARD, "sunset")), False),
        (replace(plain, times=times), False),
        (replace(plain, seconds=1.25, labels=("sunset", "siren")), False),
        (replace(plain, width=90, height=160, labels=(CHECKERBOARD, "sunrise", "rising")), False),
    )
    for scene, is_corrupt in scenes:
        key = _new_key("train", taken, chance)
        taken.add(key)
        yield _Entry(key, replace(scene, seed=chance.getrandbits(32)), is_corrupt)


def _write_shards(folder: Path, entries: Sequence[_Entry], shards: int, seed: int) -> None:
    from shardmill.adapters.sample_files import write_tar

    size = math.ceil(len(entries) / shards)
    with ThreadPoolExecutor(len(sched_getaffinity(0))) as pool:
        for number in range(shards):
            shard = sorted(entries[number * size : (number + 1) * size], key=lambda entry: entry.key)
            files = (file for sample in pool.map(_sample_files, shard) for file in sample)
            write_tar(folder / f"sample-{shard_name(number)}.tar", files)


def _sample_files(entry: _Entry) -> list[tuple[str, bytes]]:
    from shardmill.adapters.sample_files import encode_scene

    video = encode_scene(entry.scene)
    if entry.is_corrupt:
        video = video[: len(video) // 2]
    chance = random.Random(entry.scene.seed)  # noqa: S311
    title = chance.choice(_TITLES).format(
        place=chance.choice(_PLACES), thing=chance.choice(_THINGS), number=chance.randint(1, 99)
    )
    info = {
        "id": entry.key,
        "title": title,
        "duration": entry.scene.seconds,
        "categories": ["sample"],
        "tags": list(entry.scene.labels),
        "labels": list(entry.scene.labels),
        "ext": "mp4",
        "webpage_url": f"https://www.youtube.com/watch?v={entry.key}",
    }
    annotations = '<?xml version="1.0" encoding="UTF-8" ?><document><annotations></annotations></document>'
    files = {
        "annotations.xml": annotations.encode(),
        "description": title.encode(),
        "dllog": b"[download] 100%",
        "info.json": json.dumps(info, ensure_ascii=False).encode(),
        "mp4": video,
        "txt": title.encode() + b"\n",
    }
    return [(f"{entry.key}.{suffix}", content) for suffix, content in files.items()]


def _labels_csv(entries: Iterable[_Entry]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("video_id", "labels"))
    for entry in sorted(entries, key=lambda entry: entry.key):
        writer.writerow((entry.key, "|".join(entry.scene.labels)))
    return text.getvalue()
