from __future__ import annotations

import pytest

from shardmill.adapters import lake as commits
from shardmill.jobs.derived import outputs, rebuild, refresh
from shardmill.specs.manifest import Manifest, SourceObject
from shardmill.specs.video_pipeline import VideoPipelineSpec

ASKED = VideoPipelineSpec(source="s3://b", lake="s3://lake", dataset="x", shards="000000..000001")
SOURCES = {shard: SourceObject(uri=f"s3://b/x-{shard:06d}.tar", size=1, version="v") for shard in range(3)}


def commit(lake, stage: str, shard: int, recipe_hash: str) -> None:
    commits.commit(
        lake,
        Manifest(
            stage=stage,
            dataset="x",
            shard=shard,
            revision=0,
            recipe_hash=recipe_hash,
            source=SOURCES[shard],
            samples_in=0,
            parts=(),
        ),
    )


@pytest.fixture
def made(lake):
    for shard in range(3):
        commit(lake, "raw", shard, "")
    commit(lake, "clips", 0, ASKED.split_recipe.hash)
    commit(lake, "features", 0, "of-other-labels")
    return lake


def test_one_command_rebuilds_all_that_is_derived(made):
    assert [output.folder for output in outputs(made, "x")] == [
        "raw/x",
        f"clips/x/{ASKED.split_recipe.hash}",
        "features/x/of-other-labels",
    ]
    for output in outputs(made, "x"):
        list(refresh(made, output))
    right = {item.key: made.get(item.key) for item in made.list() if item.key.endswith(".parquet")}
    assert len(right) == 5
    for key in right:
        (made.folder / key).write_bytes(b"nonsense")
    said = list(rebuild(made, "x"))
    assert {key: made.get(key) for key in right} == right
    assert said[0] == "raw/x/_index.parquet: 3 shards, 3 manifests read, written (it was asked for)"
    assert len(said) == 5


def test_what_is_right_is_left_as_it_is(made):
    for output in outputs(made, "x"):
        list(refresh(made, output))
    assert {line.partition(": ")[2] for output in outputs(made, "x") for line in refresh(made, output)} == {
        "3 shards, 0 manifests read, left as it is",
        "1 shards, 0 manifests read, left as it is",
        "0 rows of 1 shards, 0 manifests read, left as it is",
    }
