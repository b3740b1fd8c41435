"""Generate a sample of records for the laptop: small, always the same bytes, and something to learn in each stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shardmill.adapters.records import Record, write_records
from shardmill.adapters.store import MissingObjectError, Store, StoreSettings
from shardmill.core.frames import AUDIO_VALUES, RGB_VALUES
from shardmill.core.planning import BadRequestError

FOLDER = "s3://shardmill-source/records"
VERSION = 1
"""Raised by hand when the sample's content changes: what is there of an older one is replaced."""
MARKER = "_sample.json"
"""Names the sample that a folder holds, or that is being written into it."""
SUFFIX = ".tfrecord"
IN_PICTURE, IN_SOUND, IN_ORDER = 5, 3, 2
LABELS = IN_PICTURE + IN_SOUND + IN_ORDER
_NOISE, _STRENGTH = 25.0, 14.0


@dataclass(frozen=True)
class RecordSample:
    """How large the sample is."""

    train: int = 400
    """Training records."""
    validation: int = 120
    train_files: int = 4
    validation_files: int = 2
    frames: tuple[int, int] = (8, 24)
    """Fewest and most frames of a record."""
    seed: int = 0


def sample_records(first: int, count: int, sample: RecordSample) -> Iterator[Record]:
    """Draw records: five labels show in the picture alone, three in the sound, two only in the order of the frames.

    Args:
        first: number of the first one; a record depends on its number and the seed alone.
    """
    directions = np.random.default_rng(sample.seed).choice((-1.0, 1.0), (LABELS, RGB_VALUES))
    for number in range(first, first + count):
        random = np.random.default_rng((sample.seed, number))
        chosen = random.permutation(IN_PICTURE + IN_SOUND)[: int(random.integers(1, 4))]
        rises = bool(random.integers(2))
        seconds = int(random.integers(sample.frames[0], sample.frames[1] + 1))
        rgb = random.normal(128.0, _NOISE, (seconds, RGB_VALUES))
        audio = random.normal(128.0, _NOISE, (seconds, AUDIO_VALUES))
        for label in chosen:
            if label < IN_PICTURE:
                rgb += _STRENGTH * directions[label]
            else:
                audio += _STRENGTH * directions[label, :AUDIO_VALUES]
        ramp = np.linspace(-1.0, 1.0, seconds) * (1 if rises else -1)
        rgb += 2 * _STRENGTH * ramp[:, None] * directions[-1]
        labels = (*sorted(int(label) for label in chosen), LABELS - 2 + int(rises))
        yield Record(f"s{number:06d}", labels, _bytes(rgb), _bytes(audio))


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.rint(values).clip(0, 255), np.uint8)


def put_record_sample(
    uri: str = FOLDER, settings: StoreSettings | None = None, sample: RecordSample | None = None
) -> None:
    """Write the sample into a folder's ``train`` and ``validate``, unless it is there; an older sample is replaced.

    Raises:
        BadRequestError: the folder holds TFRecord files of somebody else's; nothing was changed.
    """
    sample = sample or RecordSample()
    store = Store(uri, settings, create=True)
    asked = {"version": VERSION, **sample.__dict__}
    marker = json.dumps(asked).encode()
    try:
        found = store.get(MARKER)
    except MissingObjectError:
        found = b""
    if found == marker:
        return
    _make_room(store, found, _keys(sample.train_files, sample.validation_files))
    # The marker comes first: what an interrupted write left is known for a sample's, and replaced by the next one.
    store.put(MARKER, json.dumps({**asked, "incomplete": True}).encode())
    _write(store, sample)
    store.put(MARKER, marker)


def _make_room(store: Store, marker: bytes, wanted: set[str]) -> None:
    """Delete the files of the sample that a marker names, and nothing else."""
    there = {item.key for item in store.list() if item.key.endswith(SUFFIX)}
    old = _marked_keys(marker)
    foreign = there if old is None else (there & wanted) - old
    if foreign:
        raise BadRequestError(
            f"FOLDER: expected an empty folder or an older sample, found {min(foreign)} in {store.uri}: "
            "name another folder"
        )
    store.delete(sorted(there & (old or set())))


def _marked_keys(marker: bytes) -> set[str] | None:
    """Give the keys of the sample that a marker names; None where it is no marker of ours."""
    try:
        found = json.loads(marker)
        int(found["version"])
        return _keys(int(found["train_files"]), int(found["validation_files"]))
    except (ValueError, KeyError, TypeError):
        return None


def _keys(train_files: int, validation_files: int) -> set[str]:
    counts = {"train": train_files, "validate": validation_files}
    return {_key(split, number) for split, files in counts.items() for number in range(files)}


def _key(split: str, number: int) -> str:
    return f"{split}/{split}{number:02d}{SUFFIX}"


def _write(store: Store, sample: RecordSample) -> None:
    first = 0
    with store.scratch("records-") as folder:
        for split, records, files in (
            ("train", sample.train, sample.train_files),
            ("validate", sample.validation, sample.validation_files),
        ):
            bounds = [first + records * number // files for number in range(files + 1)]
            for number in range(files):
                path = Path(folder) / f"{split}{number:02d}{SUFFIX}"
                write_records(path, sample_records(bounds[number], bounds[number + 1] - bounds[number], sample))
                store.put_new(_key(split, number), path)
            first += records
