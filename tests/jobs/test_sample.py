from __future__ import annotations

import json
import random
import tarfile
from pathlib import Path

import pytest

from shardmill.adapters import lake as commits
from shardmill.adapters.records import read_records
from shardmill.adapters.store import Store
from shardmill.core.labels import LabelTable
from shardmill.core.subsets import subset_of
from shardmill.jobs import sample
from shardmill.jobs.features import featurize_shard
from shardmill.jobs.ingest import ingest_shard
from shardmill.jobs.sample import ODD_VIDEOS, make_sample
from shardmill.jobs.split import Splitting, split_shard
from shardmill.specs.manifest import SourceObject
from shardmill.specs.recipes import FeatureRecipe, SplitRecipe

VIDEOS = 10


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    make_sample(folder, videos=VIDEOS, shards=2, seconds=(2.0, 3.0))
    return folder


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_shards_have_the_layout_of_the_downloads(small):
    assert sorted(content_of(small)) == [".complete", "labels.csv", "sample-000000.tar", "sample-000001.tar"]
    suffixes = {"mp4", "info.json", "description", "annotations.xml", "dllog", "txt"}
    keys: list[str] = []
    for path in small.glob("*.tar"):
        with tarfile.open(path) as tar:
            names = tar.getnames()
            assert names == sorted(names, key=lambda name: name.split(".")[0])
            for key in dict.fromkeys(name.split(".")[0] for name in names):
                assert {name[12:] for name in names if name.startswith(f"{key}.")} == suffixes
                assert json.load(tar.extractfile(f"{key}.info.json"))["id"] == key
                keys.append(key)
    assert len(set(keys)) == VIDEOS + ODD_VIDEOS
    assert {len(key) for key in keys} == {11}


def test_the_labels_name_every_video(small):
    table = LabelTable.from_csv((small / "labels.csv").read_text())
    assert table.vocabulary == ("checkerboard", "drum", "falling", "rising", "siren", "sunrise", "sunset")
    assert len(table.rows) == VIDEOS + ODD_VIDEOS
    assert all(("sunrise" in row) != ("sunset" in row) for row in table.rows.values())
    assert sum(subset_of(key, 0.2) == "validation" for key in table.rows) == VIDEOS // 5


def test_the_demos_sample_has_sixty_validation_videos_and_labels_that_tell_nothing_of_one_another():
    entries = sample._entries(300, (6.0, 8.0), random.Random(0))
    validation = [entry for entry in entries if subset_of(entry.key, 0.2) == "validation"]
    assert (len(entries), len(validation)) == (305, 60)
    assert any(entry.key.startswith("-") for entry in entries)
    for sky in ("sunrise", "sunset"):
        with_sky = [entry.scene.labels for entry in validation if sky in entry.scene.labels]
        assert 24 <= len(with_sky) <= 36
        assert 4 <= sum("siren" in labels for labels in with_sky) <= 11


def test_a_complete_sample_is_left_alone(small, monkeypatch):
    before = content_of(small)
    monkeypatch.setattr(sample, "_write_shards", lambda *arguments: pytest.fail("it was written again"))
    make_sample(small, videos=VIDEOS, shards=2, seconds=(2.0, 3.0))
    assert content_of(small) == before


def test_an_interrupted_sample_leaves_no_marker_and_is_written_anew(tmp_path, monkeypatch):
    def interrupt(entry):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sample, "_sample_files", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make_sample(tmp_path, videos=2, shards=1, seconds=(1.0, 1.0))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "sample-000007.tar").write_bytes(b"of an older sample")
    make_sample(tmp_path, videos=2, shards=1, seconds=(1.0, 1.0))
    assert sorted(content_of(tmp_path)) == [".complete", "labels.csv", "sample-000000.tar"]
    first = content_of(tmp_path)
    (tmp_path / ".complete").unlink()
    make_sample(tmp_path, videos=2, shards=1, seconds=(1.0, 1.0))
    assert content_of(tmp_path) == first


def test_the_sample_goes_through_ingest_split_and_features(small, lake):
    source, split = Store(f"file://{small}"), SplitRecipe(preset="ultrafast")
    labels = LabelTable.from_csv((small / "labels.csv").read_text())
    recipe = FeatureRecipe(split=split, extractor="frame_statistics", labels=labels.digest)
    records = {}
    rejects = []
    for shard in (0, 1):
        info = source.head(f"sample-{shard:06d}.tar")
        raw = SourceObject(uri=source.uri_of(info.key), size=info.size, version=info.version)
        ingest_shard(lake, "sample", (shard, raw), "copy" if shard else "reference")
        split_shard(lake, "sample", shard, split, Splitting(max_reject_share=0.5))
        featurize_shard(lake, ("sample", shard), recipe, labels)
        manifest = commits.latest_revision(lake, "features", "sample", recipe.hash, shard).manifest
        clips = commits.latest_revision(lake, "clips", "sample", split.hash, shard).manifest
        rejects += [*clips.rejects, *manifest.rejects]
        for part in manifest.parts:
            records |= {record.id: record for record in read_records(lake.get(part.name), part.name)}
    assert len(rejects) == 1  # the corrupt video
    assert len(records) == VIDEOS + ODD_VIDEOS - 1
    assert all(record.labels == labels.labels_of(key) for key, record in records.items())
    assert all(2 <= len(record.rgb) <= 6 for record in records.values())
