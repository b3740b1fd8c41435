"""The same run on disk, on S3 and on GCS makes the same clips."""

from __future__ import annotations

import numpy as np
import pytest
from faults.shards import make_shard

from shardmill import stages
from shardmill.adapters.access import Access
from shardmill.adapters.lake import latest_revision
from shardmill.adapters.records import read_records
from shardmill.adapters.roots import Roots
from shardmill.adapters.store import Store
from shardmill.jobs.plan import plan_run
from shardmill.jobs.verify import Verifying, verify
from shardmill.specs.video_pipeline import VideoPipelineSpec

SEEN: dict[str, object] = {}


@pytest.fixture(scope="module")
def shard(tmp_path_factory, run_ffmpeg):
    return make_shard(tmp_path_factory.mktemp("made"), run_ffmpeg, videos=8)


@pytest.mark.parametrize("ingest", ["reference", "copy"])
def test_a_run_makes_the_same_clips_wherever_its_lake_lies(place, shard, ingest):
    path, labels = shard
    source = Store(f"{place.uri}/source", place.settings, create=True)
    source.put(path.name, path.read_bytes())
    table = "".join(f"{video},{'|'.join(names)}\n" for video, names in labels.items())
    source.put("labels.csv", b"video_id,labels\n" + table.encode())
    asked = VideoPipelineSpec(
        source=source.uri,
        labels=f"{source.uri}/labels.csv",
        lake=f"{place.uri}/lake",
        dataset="alike",
        ingest=ingest,
        preset="ultrafast",
        width=64,
        height=48,
        workers=1,
        batch_size=1,
        validation_share=0.4,
    )
    access = Access(place.settings, roots=Roots((place.uri,), (place.uri,)))
    planned = plan_run(asked, "run", access)
    opened = stages.open_run(planned.spec_uri, lambda connection: access)
    for stage in stages.VIDEO_STAGES.values():
        stage(opened, planned.plan.numbers, lambda line: None)
    assert (
        verify(
            planned.run.folder, settings=place.settings, how=Verifying(deep=True, source_settings=place.settings)
        ).findings
        == ()
    )
    assert plan_run(asked, "another run", access).batches == []

    clips = latest_revision(opened.lake, "clips", "alike", asked.split_recipe.hash, 7)
    hashes = [part.sha256 for part in clips.manifest.parts]
    assert SEEN.setdefault("clips", hashes) == hashes
    recipe = asked.feature_recipe(opened.labels.digest).hash
    features = latest_revision(opened.lake, "features", "alike", recipe, 7)
    records = {
        record.id: record
        for part in features.manifest.parts
        for record in read_records(opened.lake.stream(part.name), part.name)
    }
    assert len(records) == 8
    first = SEEN.setdefault("records", records)
    for key, record in records.items():
        for name in ("rgb", "audio"):
            step = np.abs(getattr(record, name).astype(int) - getattr(first[key], name).astype(int)).max()
            assert step <= 1, (key, name, step)
