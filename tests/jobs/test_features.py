from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from shardmill.adapters import lake as commits
from shardmill.adapters.extractors import ExtractorError
from shardmill.adapters.records import Record, read_records
from shardmill.adapters.sample_files import encode_scene
from shardmill.adapters.store import DamagedObjectError, MissingObjectError, Store
from shardmill.adapters.tar import Clip, PartFile
from shardmill.core.labels import LabelTable
from shardmill.core.layout import is_receipt, part_folder, stage_folder
from shardmill.core.logmel import describe_second
from shardmill.core.quantise import quantise
from shardmill.core.rejects import ReconcileError, TooManyRejectsError
from shardmill.core.sample_scenes import Scene
from shardmill.core.subsets import subset_of
from shardmill.jobs.features import Featurizing, Outcome, featurize_shard
from shardmill.specs.manifest import Manifest, Part, Receipt, SourceObject, Video
from shardmill.specs.recipes import FeatureRecipe, SplitRecipe

SPLIT = SplitRecipe()
SCENE = Scene(3, ("sunrise", "rising"), seconds=2.0, width=128, height=64)
TRAIN, VALIDATION, SILENT = "-train_1", "vali", "silent"  # by their hash
LABELS = LabelTable.from_rows({TRAIN: ["b", "c"], VALIDATION: ["a"], SILENT: ["b"], "broken": ["a"]})
RECIPE = FeatureRecipe(split=SPLIT, extractor="frame_statistics", labels=LABELS.digest, validation_share=0.5)


@pytest.fixture(scope="module")
def mp4s() -> dict[str, bytes]:
    scenes = {"plain": SCENE, "short": replace(SCENE, seconds=0.5), "mute": replace(SCENE, labels=("sunset",))}
    return {name: encode_scene(scene) for name, scene in scenes.items()} | {"damaged": b"no clip"}


def batched(keys: Iterable[str], size: int) -> Iterator[list[str]]:
    remaining = iter(keys)
    while batch := list(islice(remaining, size)):
        yield batch


def put_clips(
    lake: Store, scratch: Path, videos: dict[str, list[bytes]], revision: int = 0, in_part: int = 0
) -> Manifest:
    """Publish clips as split does, so many videos a part; 0 for all."""
    folder = part_folder(stage_folder("clips", "some", SPLIT.hash), 3, revision)
    parts, found = [], []
    for number, keys in enumerate(batched(videos, in_part or len(videos))):
        file = PartFile(scratch / f"clips-{revision}-{number}.tar", max_bytes=10**9, max_clips=10**6)
        for key in keys:
            for clip, mp4 in enumerate(videos[key]):
                file.write(key, Clip(clip, mp4, b"{}", b'{"title": "a & <i>b</i>"}'))
        file.close()
        sha256 = commits.file_sha256(file.path)
        name = f"{folder}/some-clips-{number:06d}-{sha256[:12]}.tar"
        parts.append(Part(name=name, size=file.path.stat().st_size, sha256=sha256, samples=file.clips))
        commits.put_part(lake, parts[-1], file.path)
        found += [Video(key=key, clips=len(videos[key]), part=number) for key in keys]
    manifest = Manifest(
        stage="clips",
        dataset="some",
        shard=3,
        revision=revision,
        recipe_hash=SPLIT.hash,
        source=SourceObject(uri="file:///raw", size=1, version=str(revision)),
        samples_in=len(videos),
        parts=tuple(parts),
        videos=tuple(found),
    )
    return commits.commit(lake, manifest).manifest


@pytest.fixture
def clips(lake: Store, tmp_path: Path, mp4s: dict[str, bytes]) -> Manifest:
    """Three labelled videos, one unlabelled, one whose second clip is damaged."""
    videos = {
        TRAIN: ["plain", "plain", "short"],
        VALIDATION: ["plain"],
        SILENT: ["mute"],
        "nobody": ["plain"],
        "broken": ["plain", "damaged"],
    }
    return put_clips(lake, tmp_path, {key: [mp4s[name] for name in names] for key, names in videos.items()})


def featurize(lake: Store, recipe: FeatureRecipe = RECIPE, labels: LabelTable = LABELS, **how: object) -> Outcome:
    return featurize_shard(lake, ("some", 3), recipe, labels, Featurizing(**({"workers": 2} | how)))


def committed(lake: Store, recipe: FeatureRecipe = RECIPE) -> Manifest:
    revision = commits.latest_revision(lake, "features", "some", recipe.hash, 3)
    assert revision is not None
    return revision.manifest


def records_of(lake: Store, manifest: Manifest) -> dict[str, Record]:
    return {record.id: record for part in manifest.parts for record in read_records(lake.get(part.name), part.name)}


def test_every_video_becomes_a_record_or_a_reject(lake, clips):
    outcome = featurize(lake)
    assert (outcome.videos, outcome.records, outcome.rejects, outcome.skipped) == (5, 3, 2, False)
    manifest = committed(lake)
    assert {reject.key: reject.reason for reject in manifest.rejects} == {"nobody": "no_label", "broken": "damaged"}
    assert "clip 000001" in next(reject.message for reject in manifest.rejects if reject.key == "broken")
    assert manifest.samples_in == len(manifest.videos) + len(manifest.rejects)


def test_a_record_holds_a_frame_a_second_with_labels_by_number(lake, clips):
    featurize(lake)
    manifest = committed(lake)
    records = records_of(lake, manifest)
    assert {key: (len(record.rgb), record.labels) for key, record in records.items()} == {
        TRAIN: (5, (1, 2)),
        VALIDATION: (2, (0,)),
        SILENT: (2, (1,)),
    }
    video = next(video for video in manifest.videos if video.key == TRAIN)
    assert (video.frames, video.clips, video.labels) == (5, 3, ("b", "c"))
    assert video.seconds == pytest.approx(4.5, abs=0.01)
    assert len(np.unique(records[TRAIN].rgb[:2], axis=0)) == 2
    assert np.array_equal(records[TRAIN].rgb[:2], records[TRAIN].rgb[2:4])


def test_silence_stands_where_there_is_no_sound(lake, clips):
    featurize(lake)
    record = records_of(lake, committed(lake))[SILENT]
    assert np.array_equal(record.audio[0], quantise(describe_second(np.zeros(16_000))))


def test_training_and_validation_are_in_parts_of_their_own(lake, clips):
    featurize(lake)
    manifest = committed(lake)
    assert {part.subset for part in manifest.parts} == {"train", "validation"}
    for part in manifest.parts:
        records = list(read_records(lake.get(part.name), part.name))
        assert len(records) == part.samples
        assert {subset_of(record.id, 0.5) for record in records} == {part.subset}
        assert "/000003/r000/some-000003-00000" in part.name
        assert part.name.endswith(".tfrecord")


SMALL_PARTS = RECIPE.model_copy(update={"max_part_records": 1})
"""A record a part."""


def test_a_full_part_is_closed(lake, clips):
    featurize(lake, SMALL_PARTS)
    assert [part.samples for part in committed(lake, SMALL_PARTS).parts] == [1, 1, 1]


def test_a_part_is_full_by_the_bytes_of_its_frames_too(lake, clips, monkeypatch):
    monkeypatch.setattr("shardmill.jobs.features.publication._MEGABYTE", 18)
    featurize(lake)  # 128 of those "megabytes" are two frames of 1,152 bytes
    assert [(part.subset, part.samples) for part in committed(lake).parts] == [
        ("train", 1),
        ("validation", 1),
        ("validation", 1),
    ]


def test_a_second_run_does_nothing_and_says_so(lake, clips):
    first = featurize(lake)
    before = [item.key for item in lake.list()]
    second = featurize(lake)
    assert (second.skipped, second.revision, second.records) == (True, first.revision, first.records)
    assert second.why == "its records were made from these very clips"
    assert [item.key for item in lake.list()] == before


def test_changed_clips_make_a_new_revision(lake, clips, tmp_path, mp4s):
    featurize(lake)
    put_clips(lake, tmp_path, {TRAIN: [mp4s["plain"]]}, revision=1)
    outcome = featurize(lake)
    assert (outcome.revision, outcome.records, outcome.why) == (1, 1, "its clips changed")


def test_the_same_clips_give_the_same_parts(lake, clips, tmp_path, mp4s):
    featurize(lake)
    other = Store(f"file://{tmp_path / 'other'}", create=True)
    for item in lake.list(f"clips/some/{SPLIT.hash}"):
        other.put_new(item.key, lake.get(item.key))
    featurize(other)
    assert committed(other).parts == committed(lake).parts


class BrokenStore(Store):
    """A store whose connection breaks at the n-th write."""

    writes_left = 1

    def put_new(self, key: str, content: bytes | Path) -> bool:
        if self.writes_left == 0:
            raise ConnectionError("the connection broke")
        self.writes_left -= 1
        return super().put_new(key, content)


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_what_fails_half_way_is_not_there_and_is_done_again(lake, clips, writes):
    broken = BrokenStore(lake.uri)
    broken.writes_left = writes
    with pytest.raises(ConnectionError):
        featurize(broken)
    assert commits.latest_revision(lake, "features", "some", RECIPE.hash, 3) is None
    assert featurize(lake).revision == 0


def test_a_shard_without_clips_is_named(lake):
    with pytest.raises(MissingObjectError, match="shard 000003 has no clips of recipe"):
        featurize(lake)


def test_another_label_table_than_the_recipes_is_refused(lake, clips):
    with pytest.raises(ValueError, match="labels: the recipe was made for the table"):
        featurize(lake, labels=LabelTable.from_rows({TRAIN: ["other"]}))


def test_an_unfit_extractor_stops_before_any_work(lake, clips):
    with pytest.raises(ExtractorError, match="extractor_weights"):
        featurize(lake, recipe=RECIPE.model_copy(update={"extractor": "InceptionV3"}))


def test_clips_that_are_not_what_their_manifest_says_are_refused(lake, clips, tmp_path, mp4s):
    manifest = put_clips(lake, tmp_path, {TRAIN: [mp4s["plain"]]}, revision=1)
    lost = manifest.model_copy(update={"revision": 2, "videos": (*manifest.videos, Video(key="lost", clips=1))})
    commits.commit(lake, lost)
    with pytest.raises(ReconcileError, match=r"shard 000003 hold nothing where their manifest says 'lost'"):
        featurize(lake)
    lake.put(manifest.parts[0].name, b"\0" * 10240)
    with pytest.raises(DamagedObjectError, match=manifest.parts[0].name):
        featurize(lake)


def test_progress_counts_every_video(lake, clips):
    seen: list[tuple[int, int]] = []
    featurize(lake, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 5) for number in range(1, 6)]


def test_too_many_clips_that_cannot_be_decoded_publish_nothing(lake, clips):
    with pytest.raises(TooManyRejectsError, match=r"1 of 5 samples were refused.*broken: damaged"):
        featurize(lake, max_reject_share=0.1)
    assert commits.latest_revision(lake, "features", "some", RECIPE.hash, 3) is None
    assert featurize(lake, max_reject_share=0.2).rejects == 2


def test_a_manifest_names_the_very_clips_that_its_records_were_made_from(lake, clips):
    featurize(lake)
    made_from = commits.latest_revision(lake, "clips", "some", SPLIT.hash, 3)
    source = committed(lake).source
    assert (source.uri, source.version) == (lake.uri_of(made_from.key), made_from.sha256)
    assert source.size == len(lake.get(made_from.key))


def test_a_manifest_says_where_each_record_lies(lake, tmp_path, mp4s):
    put_clips(lake, tmp_path, {f"v{number}": [mp4s["short"]] for number in range(8)})
    labels = LabelTable.from_rows({f"v{number}": ["a"] for number in range(8)})
    recipe = RECIPE.model_copy(update={"max_part_records": 3, "labels": labels.digest})
    featurize(lake, recipe, labels)
    manifest = committed(lake, recipe)
    assert [video.key for video in manifest.videos] == [f"v{number}" for number in range(8)]
    assert len(manifest.parts) > 2
    for video in manifest.videos:
        part = manifest.parts[video.part]
        ((offset,), (size,)) = video.offsets, video.sizes
        (record,) = read_records(lake.get_range(part.name, offset, size), part.name)
        assert (record.id, part.subset) == (video.key, video.subset)
    for number, part in enumerate(manifest.parts):
        assert sum(sum(video.sizes) for video in manifest.videos if video.part == number) == part.size


# Going on ---------------------------------------------------------------------------------------------------------

KEYS = tuple(f"v{number}" for number in range(10))
MANY = LabelTable.from_rows({key: ["a"] for key in KEYS if key != "v4"})
RESUMED = RECIPE.model_copy(update={"max_part_records": 2, "labels": MANY.digest})


class WatchedStore(BrokenStore):
    """Notes which parts of clips are read."""

    def __init__(self, uri: str, writes: int = 10**6) -> None:
        super().__init__(uri)
        self.writes_left = writes
        self.read: list[str] = []

    def stream(self, key: str, version: str = "", *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        self.read.append(key)
        return super().stream(key, version, start=start, end=end)


def put_many(lake: Store, scratch: Path, mp4s: dict[str, bytes]) -> Manifest:
    """Ten videos in ten parts: one unlabelled, one whose clip is damaged."""
    videos = {key: [mp4s["short"] if key != "v7" else mp4s["damaged"]] for key in KEYS}
    return put_clips(lake, scratch, videos, in_part=1)


def bytes_in(lake: Store) -> dict[str, bytes]:
    return {item.key: lake.get(item.key) for item in lake.list("features")}


@pytest.mark.parametrize("writes", range(11))
def test_what_broke_off_goes_on_behind_the_last_part_of_each_subset(lake, tmp_path, mp4s, writes):
    clips = put_many(lake, tmp_path, mp4s)
    with pytest.raises(ConnectionError):
        featurize(WatchedStore(lake.uri, writes), RESUMED, MANY)
    left = bytes_in(lake)
    assert len(left) == writes
    again = WatchedStore(lake.uri)
    outcome = featurize(again, RESUMED, MANY)
    assert (outcome.records, outcome.rejects, outcome.revision) == (8, 2, 0)
    receipts = [Receipt.from_json(content) for key, content in left.items() if is_receipt(key)]
    done = {subset: max(found, default=0) for subset, found in _done_by_subset(receipts).items()}
    missing = [video for index, video in enumerate(clips.videos) if index >= done[subset_of(video.key, 0.5)]]
    assert [key for key in again.read if key.startswith("clips/")] == [
        clips.parts[video.part].name for video in missing
    ]
    resumed = bytes_in(lake)
    lake.delete(list(resumed))
    featurize(lake, RESUMED, MANY)  # undisturbed
    assert bytes_in(lake) == resumed
    assert len(resumed) == 11, "five parts with their receipts and the manifest"
    assert {part.subset for part in committed(lake, RESUMED).parts} == {"train", "validation"}
    assert [reject.key for reject in committed(lake, RESUMED).rejects] == ["v4", "v7"]


def _done_by_subset(receipts: list[Receipt]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {"train": [], "validation": []}
    for receipt in receipts:
        found[receipt.part.subset].append(receipt.next_sample)
    return found


def test_what_was_left_by_records_of_other_clips_is_not_gone_on_with(lake, tmp_path, mp4s):
    put_many(lake, tmp_path, mp4s)
    with pytest.raises(ConnectionError):
        featurize(WatchedStore(lake.uri, 4), RESUMED, MANY)
    put_clips(lake, tmp_path, {"v9": [mp4s["plain"]]}, revision=1)
    assert featurize(lake, RESUMED, MANY).revision == 0
    assert list(records_of(lake, committed(lake, RESUMED))) == ["v9"]


def test_progress_counts_what_an_earlier_try_did(lake, tmp_path, mp4s):
    put_many(lake, tmp_path, mp4s)
    with pytest.raises(ConnectionError):
        featurize(WatchedStore(lake.uri, 6), RESUMED, MANY)
    seen: list[tuple[int, int]] = []
    featurize(lake, RESUMED, MANY, progress=lambda done, total: seen.append((done, total)))
    assert 1 < seen[0][0] <= 10
    assert seen == [(number, 10) for number in range(seen[0][0], 11)]


def test_a_damaged_part_of_the_clips_commits_nothing_and_its_repair_is_enough(lake, tmp_path, mp4s):
    clips = put_many(lake, tmp_path, mp4s)
    part = clips.parts[8]
    whole = lake.get(part.name)
    damaged = bytearray(whole)
    damaged[len(damaged) // 3] ^= 1
    lake.put(part.name, bytes(damaged))
    with pytest.raises(DamagedObjectError, match=f"{part.name}: expected the SHA-256 {part.sha256}"):
        featurize(lake, RESUMED, MANY)
    assert commits.latest_revision(lake, "features", "some", RESUMED.hash, 3) is None
    lake.put(part.name, whole)
    assert featurize(lake, RESUMED, MANY).records == 8


def test_scratch_is_empty_afterwards_also_behind_a_failure(lake, clips):
    with pytest.raises(TooManyRejectsError):
        featurize(lake, max_reject_share=0.1)
    featurize(lake)
    assert list((lake.folder / "_scratch").iterdir()) == []
