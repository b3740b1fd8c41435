from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shardmill.adapters import lake as commits
from shardmill.adapters.extractors import ExtractorError
from shardmill.adapters.records import Record, read_records
from shardmill.adapters.sample_files import encode_scene
from shardmill.adapters.store import MissingObjectError, Store
from shardmill.adapters.tar import Clip, DamagedTarError, PartFile
from shardmill.core.labels import LabelTable
from shardmill.core.layout import part_folder, stage_folder
from shardmill.core.logmel import describe_second
from shardmill.core.quantise import quantise
from shardmill.core.rejects import TooManyRejectsError
from shardmill.core.sample_scenes import Scene
from shardmill.core.subsets import subset_of
from shardmill.jobs import features
from shardmill.jobs.features import ReconcileError, featurize_shard
from shardmill.specs.manifest import Manifest, SourceObject, Video
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


def put_clips(lake: Store, scratch: Path, videos: dict[str, list[bytes]], revision: int = 0) -> Manifest:
    """Publish clips as split does."""
    file = PartFile(scratch / f"clips-{revision}.tar")
    for key, clips in videos.items():
        for number, mp4 in enumerate(clips):
            file.write(key, Clip(number, mp4, b"{}", b'{"title": "a & <i>b</i>"}'))
    file.close()
    folder = part_folder(stage_folder("clips", "some", SPLIT.hash), 3, revision)
    part = commits.put_part(lake, file.path, folder=folder, stem="some-clips", suffix=".tar", samples=file.clips)
    manifest = Manifest(
        stage="clips",
        dataset="some",
        shard=3,
        revision=revision,
        recipe_hash=SPLIT.hash,
        source=SourceObject(uri="file:///raw", size=1, version=str(revision)),
        samples_in=len(videos),
        parts=(part,),
        videos=tuple(Video(key=key, clips=len(clips)) for key, clips in videos.items()),
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


def featurize(lake: Store, recipe: FeatureRecipe = RECIPE, labels: LabelTable = LABELS) -> features.Outcome:
    return featurize_shard(lake, "some", 3, recipe, labels, workers=2)


def committed(lake: Store) -> Manifest:
    revision = commits.latest_revision(lake, "features", "some", RECIPE.hash, 3)
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


def test_a_full_part_is_closed(lake, clips, monkeypatch):
    monkeypatch.setattr(features, "PART_BYTES", 2000)
    featurize(lake)
    assert [part.samples for part in committed(lake).parts] == [1, 1, 1]


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
    with pytest.raises(ReconcileError, match=r"expected 2 videos, .* found 1"):
        featurize(lake)
    lake.put(manifest.parts[0].name, b"\0" * 10240)
    with pytest.raises(DamagedTarError):
        featurize(lake)


def test_progress_counts_every_video(lake, clips):
    seen: list[tuple[int, int]] = []
    featurize_shard(lake, "some", 3, RECIPE, LABELS, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 5) for number in range(1, 6)]


def test_too_many_clips_that_cannot_be_decoded_publish_nothing(lake, clips):
    with pytest.raises(TooManyRejectsError, match=r"1 of 5 samples were refused.*broken: damaged"):
        featurize_shard(lake, "some", 3, RECIPE, LABELS, max_reject_share=0.1)
    assert commits.latest_revision(lake, "features", "some", RECIPE.hash, 3) is None
    assert featurize_shard(lake, "some", 3, RECIPE, LABELS, max_reject_share=0.2).rejects == 2
