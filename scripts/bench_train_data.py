"""Synthetic YouTube-8M records for the bench of training: made once, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shardmill.adapters.records import Record, write_records
from shardmill.core.frames import AUDIO_VALUES, RGB_VALUES
from shardmill.specs.records import RecordPart, RecordSet

SCENES, SOUNDS = 5, 4
LABELS = SCENES * SOUNDS
SHORTEST, LONGEST = 60, 300
"""Frames of a video; every length between is as likely."""
NOISE, SCENE_STEP, SOUND_STEP = 32.0, 6.0, 16.0
"""Of 255 steps: the spread of a value around 128, and how far a scene and a sound move it."""
TWO_EVENTS = 0.3
SHOWN = 0.5
"""Share of an event's frames in which its scene is seen, and of those in which its sound is heard."""
PART_RECORDS = 250
RECORDS_NAME = "records.json"


def make_records(folder: Path, train: int, validation: int) -> RecordSet:
    """Give the record set of a folder, made where it is not there."""
    folder = folder.resolve()
    described = folder / RECORDS_NAME
    if described.exists():
        return RecordSet.from_json(described.read_bytes())
    folder.mkdir(parents=True, exist_ok=True)
    records = RecordSet(
        vocabulary=tuple(f"scene {scene}, sound {sound}" for scene in range(SCENES) for sound in range(SOUNDS)),
        max_frames=LONGEST,
        train=tuple(_parts(folder, "train", train)),
        validation=tuple(_parts(folder, "validation", validation)),
    )
    described.write_bytes(records.to_json())
    return records


def _parts(folder: Path, name: str, count: int) -> Iterator[RecordPart]:
    for number, start in enumerate(range(0, count, PART_RECORDS)):
        path = folder / f"{name}-{number:03d}.tfrecord"
        indices = range(start, min(start + PART_RECORDS, count))
        write_records(path, (synthetic_record(f"{name}{index:06d}", name == "train", index) for index in indices))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        yield RecordPart(uri=path.as_uri(), sha256=sha256, records=len(indices))


def synthetic_record(name: str, is_train: bool, index: int) -> Record:
    """Make a video of noise with one event or two, one after the other: now and then a scene is seen, a sound heard.

    A label is a scene together with a sound, so neither stream alone tells it. Where there are two events, what is
    seen first belongs to what is heard first.
    """
    random = np.random.default_rng([17, int(is_train), index])
    seconds = int(random.integers(SHORTEST, LONGEST + 1))
    rgb, audio = (_noise(random, seconds, values) for values in (RGB_VALUES, AUDIO_VALUES))
    events = 2 if random.random() < TWO_EVENTS else 1
    scenes, sounds = (random.choice(kinds, events, replace=False) for kinds in (SCENES, SOUNDS))
    for event, (scene, sound) in enumerate(zip(scenes, sounds, strict=True)):
        frames = slice(event * seconds // events, (event + 1) * seconds // events)
        for values, step, pattern in (
            (rgb, SCENE_STEP, _pattern(0, int(scene))),
            (audio, SOUND_STEP, _pattern(1, int(sound))),
        ):
            shown = random.random((len(values[frames]), 1)) < SHOWN
            values[frames] += step * shown * pattern[: values.shape[1]]
    labels = tuple(sorted(int(scene) * SOUNDS + int(sound) for scene, sound in zip(scenes, sounds, strict=True)))
    return Record(name, labels, _bytes(rgb), _bytes(audio))


def _noise(random: np.random.Generator, seconds: int, values: int) -> np.ndarray:
    return random.standard_normal((seconds, values), np.float32) * NOISE + 128


def _pattern(stream: int, kind: int) -> np.ndarray:
    return np.random.default_rng([18, stream, kind]).choice([-1.0, 1.0], RGB_VALUES).astype(np.float32)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.asarray(values.clip(1, 255), np.uint8)
