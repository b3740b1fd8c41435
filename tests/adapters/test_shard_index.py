from __future__ import annotations

import random
from dataclasses import replace

import pytest
from pyarrow import parquet

from shardmill.adapters import lake as commits
from shardmill.adapters.shard_index import Asked, read_index, survey_shards
from shardmill.adapters.store import DamagedObjectError, Store
from shardmill.core.stage_output import StageOutput
from shardmill.specs.manifest import Manifest, Part, Reject, SourceObject
from shardmill.specs.recipes import FeatureRecipe, SplitRecipe

SPLIT = SplitRecipe()
FEATURES = FeatureRecipe(split=SPLIT, extractor="frame_statistics", labels="l")
CLIPS = StageOutput("clips", "x", SPLIT.hash)
SHARDS = range(4)


class CountingStore(Store):
    """Counts what is read and listed."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri, create=True)
        self.read: list[str] = []
        self.listed: list[str] = []

    def get(self, key, version=""):
        self.read.append(key)
        return super().get(key, version)

    def list(self, prefix=""):
        self.listed.append(prefix)
        return super().list(prefix)

    def folders(self, prefix=""):
        self.listed.append(prefix)
        return super().folders(prefix)

    @property
    def manifests(self) -> list[str]:
        return [key for key in self.read if "_manifests" in key]


@pytest.fixture
def lake(tmp_path):
    return CountingStore(f"file://{tmp_path / 'lake'}")


def source(shard: int, version: str = "v1") -> SourceObject:
    return SourceObject(uri=f"s3://b/x-{shard:06d}.tar", size=10, version=version)


def commit(lake, stage: str, shard: int, **changes) -> commits.Revision:
    recipe_hash = {"raw": "", "clips": SPLIT.hash, "features": FEATURES.hash}[stage]
    values = {"stage": stage, "dataset": "x", "shard": shard, "revision": 0, "recipe_hash": recipe_hash}
    values |= {"source": source(shard), "samples_in": 0, "parts": ()}
    return commits.commit(lake, Manifest(**(values | changes)))


def commit_all(lake, shard: int, **changes) -> None:
    commit(lake, "raw", shard, **changes)
    commit_records(lake, commit(lake, "clips", shard, **changes))


def commit_records(lake, clips: commits.Revision, **changes) -> None:
    made_from = SourceObject(uri=lake.uri_of(clips.key), size=1, version=clips.sha256)
    commit(lake, "features", clips.manifest.shard, source=made_from, revision=clips.manifest.revision, **changes)


def survey(lake, found=None, **changes):
    found = {shard: source(shard) for shard in SHARDS} if found is None else found
    return survey_shards(lake, replace(Asked("x", SPLIT, FEATURES), **changes), found)


@pytest.fixture
def done(lake):
    """A lake in which everything is done, and an index of it."""
    for shard in SHARDS:
        commit_all(lake, shard)
    survey(lake)
    lake.read.clear()
    lake.listed.clear()
    return lake


def test_nothing_is_there_before_the_first_run_and_no_index_is_written(lake):
    found = survey(lake)
    assert {state.state for states in found.by_stage.values() for state in states.values()} == {"new"}
    assert next(iter(found.lines())) == "raw: 4 new (000000 000001 000002 000003)"
    assert list(lake.list()) == []


def test_a_plan_of_what_is_done_reads_no_manifest_and_lists_once_a_stage(done):
    found = survey(done)
    assert [found.todo(shard) for shard in SHARDS] == [{}] * 4
    assert (found.manifests_read, done.manifests, found.remarks) == (0, [], ())
    assert len(done.read) == 3
    assert sorted(done.listed) == sorted(
        f"{output.folder}/_manifests"
        for output in (StageOutput("raw", "x"), CLIPS, StageOutput("features", "x", FEATURES.hash))
    )


def test_only_changed_manifests_are_read(done):
    commit(done, "clips", 2, revision=1, source=source(2, "v2"))
    commit(done, "raw", 9)
    found = survey(done)
    assert sorted(done.manifests) == [
        f"{CLIPS.folder}/_manifests/000002/r001.json",
        "raw/x/_manifests/000009/r000.json",
    ]
    assert found.manifests_read == 2
    assert survey(done).manifests_read == 0


def test_a_changed_source_makes_a_shard_stale_at_every_stage(done):
    found = survey(done, {shard: source(shard, "v2" if shard == 1 else "v1") for shard in SHARDS})
    assert found.todo(0) == {}
    assert found.todo(1) == {
        "raw": "the source changed",
        "clips": "the source changed",
        "features": "its clips are to be made first",
    }


def test_a_copy_of_what_is_only_referenced_is_asked_for(done):
    part = Part(name="raw/x/000002/r001/p", size=10, sha256="a", samples=1)
    commit(done, "raw", 2, revision=1, parts=(part,))
    found = survey(done, ingest="copy")
    assert [found.todo(shard) for shard in (1, 2)] == [{"raw": "it is only referenced, a copy is asked for"}, {}]


def test_a_shard_of_another_recipe_is_stale_and_its_manifests_are_not_read(done):
    other = SPLIT.model_copy(update={"width": 128})
    found = survey(done, split=other, features=FEATURES.model_copy(update={"split": other}))
    assert found.todo(0)["clips"] == "made by another recipe"
    assert found.by_stage["features"][0].state == "stale"
    assert survey(done, {7: source(7)}, split=other).todo(7)["clips"] == "new"
    assert done.manifests == []


def test_records_of_clips_that_were_made_anew_are_stale(done):
    commit(done, "clips", 0, revision=1, tools={"ffmpeg": "other"})
    assert survey(done).todo(0) == {"features": "its clips changed"}


def test_records_are_unknown_while_the_labels_are(done):
    found = survey(done, features=None)
    assert found.by_stage["features"][0].state == "unknown"
    assert not any("features" in key for key in done.read + done.listed)


def test_the_tries_of_one_version_of_the_source_are_counted(lake):
    rejects = (Reject(key="v", reason="time_out", message="m"),)
    commit(lake, "clips", 0, source=source(0, "v0"), rejects=rejects, samples_in=1)
    for revision in (1, 2):
        commit(lake, "clips", 0, revision=revision, rejects=rejects, samples_in=1)
    assert read_index(lake, CLIPS).rows[0].tries == 2
    lake.read.clear()
    commit(lake, "clips", 0, revision=3, rejects=rejects, samples_in=1)
    index = read_index(lake, CLIPS)
    assert (index.rows[0].tries, index.rows[0].retryable_rejects, index.manifests_read) == (3, 1, 1)
    assert survey(lake, {0: source(0)}).retry_of(0) is None, "three tries are enough"


def damage(lake, key: str, how: str) -> None:
    path = lake.folder / key
    content = path.read_bytes()
    if how == "deleted":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "emptied":
        path.write_bytes(b"")
    elif how == "of another recipe":
        path.write_bytes((lake.folder / StageOutput("features", "x", FEATURES.hash).table_key("index")).read_bytes())
    elif how == "of other rows":
        table = parquet.read_table(path)
        column = table.schema.get_field_index("source_version")
        changed = table.set_column(column, "source_version", [["lie"] * table.num_rows])
        parquet.write_table(changed.replace_schema_metadata(table.schema.metadata), path)
    elif how == "of other columns":
        parquet.write_table(parquet.read_table(path).drop_columns(["tries"]), path)


@pytest.mark.parametrize(
    ("how", "because"),
    [
        ("deleted", "it was not there"),
        ("truncated", "it cannot be read"),
        ("emptied", "it cannot be read"),
        ("of another recipe", "its stage is features, expected clips"),
        ("of other rows", "its rows are not those that were written"),
        ("of other columns", "it cannot be read"),
    ],
)
def test_a_wrong_index_is_noticed_and_rebuilt(done, how, because):
    right = read_index(done, CLIPS)
    damage(done, CLIPS.table_key("index"), how)
    found = survey(done)
    assert [found.todo(shard) for shard in SHARDS] == [{}] * 4
    assert found.remarks[0].startswith(f"the index of {CLIPS.folder} was rebuilt from 4 manifests: {because}")
    assert found.manifests_read == 4
    assert read_index(done, CLIPS) == right


def test_no_flipped_byte_of_an_index_is_believed(done):
    right = read_index(done, CLIPS).rows
    path = done.folder / CLIPS.table_key("index")
    content = path.read_bytes()
    chance = random.Random(8)
    for _ in range(150):
        position = chance.randrange(len(content))
        flipped = bytearray(content)
        flipped[position] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        assert read_index(done, CLIPS).rows == right


def test_a_row_counts_only_while_its_manifest_is_the_listed_one(done):
    manifest = done.folder / CLIPS.folder / "_manifests/000001/r000.json"
    manifest.unlink()
    assert sorted(read_index(done, CLIPS).rows) == [0, 2, 3]
    commit(done, "clips", 1, source=source(1, "v5"))
    assert read_index(done, CLIPS).rows[1].source_version == "v5"


def test_a_damaged_manifest_is_not_taken_for_a_missing_one(done):
    commit(done, "clips", 1, revision=1)
    path = done.folder / CLIPS.folder / "_manifests/000001/r001.json"
    path.write_bytes(path.read_bytes().replace(b'"shard":1', b'"shard":2'))
    with pytest.raises(DamagedObjectError, match=r"000001/r001\.json"):
        survey(done)


def test_a_manifest_under_the_name_of_another_is_refused(done):
    folder = done.folder / CLIPS.folder / "_manifests"
    (folder / "000001/r001.json").write_bytes((folder / "000002/r000.json").read_bytes())
    with pytest.raises(DamagedObjectError, match="shard 000002"):
        survey(done)


def test_an_index_that_another_wrote_first_is_left(done, monkeypatch):
    commit(done, "clips", 1, revision=1)
    others: list[bool] = []
    swap = Store.swap

    def late(store, key, content, expected):
        if not others:
            others.append(swap(store, key, b"the other's", expected))
        return swap(store, key, content, expected)

    monkeypatch.setattr(CountingStore, "swap", late)
    index = read_index(done, CLIPS)
    assert (index.written, index.rows[1].revision, others) == (False, 1, [True])
    assert done.get(CLIPS.table_key("index")) == b"the other's"


def test_an_index_is_rebuilt_when_it_is_asked_for(done):
    index = read_index(done, CLIPS, afresh=True)
    assert (index.manifests_read, index.rebuilt_because, index.written) == (4, "it was asked for", True)
