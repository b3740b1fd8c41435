from __future__ import annotations

import random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from shardmill.adapters import catalogue as module
from shardmill.adapters import lake as commits
from shardmill.adapters.catalogue import Catalogue, refresh_catalogue
from shardmill.adapters.shard_index import read_index
from shardmill.adapters.store import Store
from shardmill.core.catalogue_rows import WrongManifestError, catalogue_rows, clip_numbers
from shardmill.core.stage_output import StageOutput
from shardmill.specs.manifest import Manifest, Part, SourceObject, Video
from shardmill.specs.recipes import SplitRecipe

SPLIT = SplitRecipe()
CLIPS = StageOutput("clips", "x", SPLIT.hash)
KEY = CLIPS.table_key("catalogue")


def part(name: str) -> Part:
    return Part(name=name, size=1000, sha256="a", samples=1)


def manifest(shard: int, *videos: Video, revision: int = 0, **changes) -> Manifest:
    values = {
        "stage": "clips",
        "dataset": "x",
        "shard": shard,
        "revision": revision,
        "recipe_hash": SPLIT.hash,
        "recipe": SPLIT.model_dump(),
        "source": SourceObject(uri="s3://b/x.tar", size=1, version=f"v{revision}"),
        "samples_in": len(videos),
        "parts": (part(f"clips/{shard}-0.tar"), part(f"clips/{shard}-1.tar")),
        "videos": videos,
    }
    return Manifest(**(values | changes))


def video(key: str, clips: int, **changes) -> Video:
    values = {
        "clips": clips,
        "seconds": 2.0 * clips - 0.5,
        "offsets": tuple(512 + 1000 * clip for clip in range(clips)),
        "sizes": tuple(100 + clip for clip in range(clips)),
    }
    return Video(key=key, **(values | changes))


@pytest.fixture
def made(lake):
    """A catalogue of three shards; the middle one has no videos."""
    commits.commit(lake, manifest(0, video("a", 2, labels=("cat", "dog")), video("b", 1, part=1)))
    commits.commit(lake, manifest(1))
    commits.commit(lake, manifest(2, video("c", 3)))
    assert refresh_catalogue(lake, CLIPS) == Catalogue(3, 6, 3, "it was not there", True)
    return lake


def rows(lake: Store) -> list[dict]:
    return parquet.read_table(lake.folder / KEY).to_pylist()


def expected_rows(*manifests: Manifest) -> list[tuple]:
    return [(row.video, row.clip, row.part, row.offset) for found in manifests for row in catalogue_rows(found, "")]


def test_each_clip_has_a_row_that_says_what_and_where_it_is(made):
    found = rows(made)
    etag = made.head(f"{CLIPS.folder}/_manifests/000000/r000.json").version
    assert found[1] == {
        "shard": 0,
        "revision": 0,
        "manifest_etag": etag,
        "video": "a",
        "clip": 1,
        "start_seconds": 2.0,
        "end_seconds": 3.5,
        "labels": ["cat", "dog"],
        "subset": "",
        "part": "clips/0-0.tar",
        "offset": 1512,
        "size": 101,
    }
    assert [(row["video"], row["clip"], row["part"]) for row in found[2:]] == [
        ("b", 0, "clips/0-1.tar"),
        ("c", 0, "clips/2-0.tar"),
        ("c", 1, "clips/2-0.tar"),
        ("c", 2, "clips/2-0.tar"),
    ]


def test_a_record_has_a_row_of_its_whole_video():
    of_record = Video(key="a", clips=3, seconds=5.5, subset="train", part=1, offsets=(7,), sizes=(9,), labels=("cat",))
    (row,) = catalogue_rows(manifest(0, of_record, stage="features"), "e")
    assert (row.clip, row.start_seconds, row.end_seconds, row.subset) == (-1, 0.0, 5.5, "train")
    assert (row.part, row.offset, row.size) == ("clips/0-1.tar", 7, 9)


@given(st.sets(st.integers(0, 40), min_size=1))
def test_clips_are_numbered_past_the_gaps(numbers):
    gaps = tuple(sorted(set(range(max(numbers))) - numbers))
    assert clip_numbers(video("a", len(numbers), gaps=gaps)) == tuple(sorted(numbers))


def test_only_the_last_clip_of_a_video_is_shortened_to_its_length():
    spans = [
        (row.clip, row.start_seconds, row.end_seconds)
        for row in catalogue_rows(manifest(0, video("a", 2, gaps=(1,), seconds=4.25)), "e")
    ]
    assert spans == [(0, 0.0, 2.0), (2, 4.0, 4.25)]


@pytest.mark.parametrize("wrong", [{"offsets": (1,)}, {"sizes": ()}, {"part": 2}])
def test_a_manifest_whose_numbers_disagree_is_refused(wrong):
    with pytest.raises(WrongManifestError, match="video a"):
        list(catalogue_rows(manifest(0, video("a", 2, **wrong)), "e"))


def test_a_catalogue_that_is_right_is_left_and_no_manifest_is_read(made):
    before = made.head(KEY)
    assert refresh_catalogue(made, CLIPS) == Catalogue(3, 6)
    assert made.head(KEY) == before


def test_only_changed_manifests_are_read_and_other_rows_are_copied(made):
    old = rows(made)
    commits.commit(made, manifest(0, video("a", 4), revision=1))
    commits.commit(made, manifest(3, video("d", 1)))
    assert refresh_catalogue(made, CLIPS) == Catalogue(4, 8, 2, "", True)
    found = rows(made)
    assert found[4:7] == old[3:]
    assert [(row["shard"], row["revision"]) for row in found] == [(0, 1)] * 4 + [(2, 0)] * 3 + [(3, 0)]


def test_the_rows_of_a_shard_that_is_gone_are_gone(made):
    made.delete([f"{CLIPS.folder}/_manifests/000000/r000.json"])
    assert refresh_catalogue(made, CLIPS).rows == 3
    assert {row["shard"] for row in rows(made)} == {2}


def test_a_catalogue_of_nothing_is_not_written(lake):
    assert refresh_catalogue(lake, CLIPS) == Catalogue(0, 0)
    assert list(lake.list()) == []


def test_raw_shards_have_no_catalogue(lake):
    with pytest.raises(ValueError, match="no catalogue"):
        refresh_catalogue(lake, StageOutput("raw", "x"))


def damage(lake: Store, how: str) -> None:
    path = lake.folder / KEY
    content = path.read_bytes()
    if how == "deleted":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(content[: len(content) * 2 // 3])
    elif how == "emptied":
        path.write_bytes(b"")
    elif how == "an index":
        read_index(lake, CLIPS)
        path.write_bytes((lake.folder / CLIPS.table_key("index")).read_bytes())
    elif how == "of another recipe":
        facts = {**StageOutput("clips", "x", "other").facts("catalogue"), "shardmill.shards": "[]"}
        parquet.write_table(parquet.read_table(path).replace_schema_metadata(facts), path)
    elif how == "without its facts":
        parquet.write_table(parquet.read_table(path), path)
    elif how == "of fewer rows":
        facts = parquet.read_metadata(path).metadata
        kept = {name: facts[name] for name in facts if name.startswith(b"shardmill.")}
        parquet.write_table(parquet.read_table(path).slice(1).replace_schema_metadata(kept), path)


@pytest.mark.parametrize(
    ("how", "because"),
    [
        ("deleted", "it was not there"),
        ("truncated", "it cannot be read"),
        ("emptied", "it cannot be read"),
        ("an index", "its table is index, expected catalogue"),
        ("of another recipe", f"its recipe_hash is other, expected {SPLIT.hash}"),
        ("without its facts", "its table is not said, expected catalogue"),
        ("of fewer rows", "its row groups are not those that were written"),
    ],
)
def test_a_wrong_catalogue_is_noticed_and_rebuilt(made, how, because):
    right = rows(made)
    damage(made, how)
    found = refresh_catalogue(made, CLIPS)
    assert found.rebuilt_because.startswith(because)
    assert (found.manifests_read, found.written) == (3, True)
    assert rows(made) == right


def test_no_flipped_byte_of_a_catalogue_is_copied_into_the_next(made):
    content = (made.folder / KEY).read_bytes()
    commits.commit(made, manifest(3, video("d", 1)))
    refresh_catalogue(made, CLIPS)
    right = rows(made)
    chance = random.Random(8)
    for _ in range(100):
        flipped = bytearray(content)
        flipped[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        (made.folder / KEY).write_bytes(flipped)
        refresh_catalogue(made, CLIPS)
        assert rows(made) == right


def test_rows_are_written_shard_by_shard(made, monkeypatch):
    """A shard's rows are a row group of their own: no more than some shards are ever in memory."""
    file = parquet.ParquetFile(made.folder / KEY)
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [3, 3]
    waiting: list[int] = []
    convert = module._to_table

    def counted(found, etag):
        waiting.append(found.shard)
        return convert(found, etag)

    written: list[int] = []
    write = parquet.ParquetWriter.write_table

    def slow(writer, table, **options):
        written.append(len(waiting))
        write(writer, table, **options)

    monkeypatch.setattr(module, "_to_table", counted)
    monkeypatch.setattr(parquet.ParquetWriter, "write_table", slow)
    for shard in range(3, 60):
        commits.commit(made, manifest(shard, video("v", 1)))
    refresh_catalogue(made, CLIPS, afresh=True)
    assert len(waiting) == 60
    assert all(begun - done <= 20 for done, begun in enumerate(written))


def test_a_catalogue_that_another_replaced_first_is_left(made, monkeypatch):
    commits.commit(made, manifest(3, video("d", 1)))
    swap = Store.swap

    def late(store, key, content, expected):
        assert swap(store, key, b"the other's", expected)
        return swap(store, key, content, expected)

    monkeypatch.setattr(Store, "swap", late)
    assert not refresh_catalogue(made, CLIPS).written
    assert made.get(KEY) == b"the other's"


def test_a_catalogue_is_queried_by_pandas_as_it_lies(made):
    import pandas

    found = pandas.read_parquet(made.folder / KEY)
    cats = found[found.labels.map(lambda labels: "cat" in labels)]
    assert list(cats.video) == ["a", "a"]
    assert found.groupby("video").size().to_dict() == {"a": 2, "b": 1, "c": 3}


def test_a_catalogue_is_queried_by_arrow_as_it_lies(made):
    from pyarrow import dataset

    found = dataset.dataset(made.folder / KEY).to_table(
        columns=["part", "offset", "size"], filter=pa.compute.field("end_seconds") <= 2.0
    )
    assert found.num_rows == 3
