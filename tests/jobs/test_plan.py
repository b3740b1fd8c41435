from __future__ import annotations

import re
from pathlib import Path

import pytest

from shardmill.adapters.access import Access
from shardmill.adapters.lake import commit
from shardmill.adapters.roots import Roots
from shardmill.adapters.store import DamagedObjectError, Store
from shardmill.core.labels import LabelTable
from shardmill.core.planning import BadRequestError
from shardmill.jobs.plan import list_source, look, plan_run, run_name
from shardmill.specs.manifest import Manifest, SourceObject
from shardmill.specs.video_pipeline import VideoPipelineSpec


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for number in range(3):
        (folder / f"x-{number:06d}.tar").write_bytes(bytes([number]) * 1000)
    (folder / "README.md").write_text("not a shard")
    return folder


@pytest.fixture
def asked(tmp_path, source):
    return VideoPipelineSpec(source=f"file://{source}", lake=f"file://{tmp_path / 'lake'}", dataset="x")


def test_a_plan_lists_the_shards_and_freezes_them(asked, source):
    planned = plan_run(asked, "dag.manual__2026-11-21T00:00:00+00:00")
    assert planned.plan.numbers == (0, 1, 2)
    (source / "x-000003.tar").write_bytes(b"late")
    assert plan_run(asked, "dag.manual__2026-11-21T00:00:00+00:00").plan == planned.plan


def test_a_run_of_the_same_name_that_asks_for_something_else_is_refused(asked):
    plan_run(asked, "r")
    with pytest.raises(BadRequestError, match="other values of epochs"):
        plan_run(asked.model_copy(update={"epochs": 99}), "r")


def test_a_source_that_is_not_there_is_named_by_its_field(asked):
    with pytest.raises(BadRequestError, match=r"^source: the folder"):
        plan_run(asked.model_copy(update={"source": asked.source + "/absent"}), "r")


def test_labels_that_are_not_there_are_named_before_anything_runs(asked):
    with pytest.raises(BadRequestError, match=r"^labels: "):
        plan_run(asked.model_copy(update={"labels": asked.source + "/absent.csv"}), "r")


def test_an_extractor_that_cannot_work_is_named_before_anything_runs(asked):
    with pytest.raises(BadRequestError, match=r"^extractor: expected one of frame_statistics"):
        plan_run(asked.model_copy(update={"extractor": "nonsense"}), "r")
    with pytest.raises(BadRequestError, match=r"extractor_weights"):
        plan_run(asked.model_copy(update={"extractor": "ResNet50"}), "r2")


def test_two_files_of_one_number_are_refused(asked, source):
    (source / "y-000001.tar").write_bytes(b"")
    with pytest.raises(BadRequestError, match="two files of shard 000001"):
        plan_run(asked, "r")


def test_a_run_id_becomes_a_folder_name():
    assert run_name("video_pipeline.green") == "video_pipeline.green"
    assert re.fullmatch(
        r"video_pipeline\.manual__2026-11-21t00-56-00-00-00-[0-9a-f]{8}",
        run_name("video_pipeline.manual__2026-11-21T00:56:00+00:00"),
    )
    assert re.fullmatch(r"etc-[0-9a-f]{8}", run_name("../../etc"))


def test_two_run_ids_never_become_one_run():
    names = {run_name(text) for text in ("Nightly A", "nightly-a", "nightly a", "x" * 80, "x" * 81, "x" * 63)}
    assert len(names) == 6
    assert all(len(name) <= 63 for name in names)


def test_a_finished_shard_is_dropped_from_the_batches_and_stays_in_the_plan(asked, lake):
    split = asked.split_recipe
    labels = Path(asked.source.removeprefix("file://")) / "labels.csv"
    labels.write_text("video_id,labels\nv,a\n")
    asked = asked.model_copy(update={"labels": f"file://{labels}"})
    features = asked.feature_recipe(LabelTable.from_csv(labels.read_text()).digest)
    found = list_source(Store(asked.source))[1]
    made = {"dataset": "x", "shard": 1, "revision": 0, "samples_in": 0, "parts": ()}
    commit(lake, Manifest(stage="raw", source=found, **made))
    clips = commit(lake, Manifest(stage="clips", recipe_hash=split.hash, source=found, **made))
    of_clips = SourceObject(uri=lake.uri_of(clips.key), size=1, version=clips.sha256)
    commit(lake, Manifest(stage="features", recipe_hash=features.hash, source=of_clips, **made))
    planned = plan_run(asked, "r")
    assert [list(batch) for batch in planned.batches] == [[0, 2]]
    assert planned.plan.numbers == (0, 1, 2)
    assert planned.plan.shards[0].todo == {"raw": "new", "clips": "new", "features": "its clips are to be made first"}
    assert "3 shards" in planned.summary and "2 to do" in planned.summary


def test_without_a_label_table_records_are_never_known_to_be_done_before_the_run(asked):
    assert all("features" in shard.todo for shard in plan_run(asked, "r").plan.shards)


@pytest.mark.parametrize("field", ["source", "labels", "projection"])
def test_a_place_below_no_root_is_refused_by_its_field(asked, field):
    outside = asked.model_copy(update={field: "file:///etc"})
    roots = Roots(sources=(asked.source,), lakes=("file:///",))
    with pytest.raises(BadRequestError, match=rf"^{field}: file:///etc lies below none .*SHARDMILL_SOURCE_ROOTS"):
        plan_run(outside, "r", Access(roots=roots))


def test_a_lake_below_no_root_is_refused_before_it_is_made(asked, tmp_path):
    with pytest.raises(BadRequestError, match=r"^lake: .*\(none is set\).*SHARDMILL_LAKE_ROOTS"):
        plan_run(asked, "r", Access(roots=Roots(sources=("file:///",))))
    assert not (tmp_path / "lake").exists()


def test_a_link_that_leads_out_of_the_source_is_refused(asked, source, tmp_path):
    (tmp_path / "secret.tar").write_bytes(b"secret")
    (source / "x-000009.tar").symlink_to(tmp_path / "secret.tar")
    with pytest.raises(BadRequestError, match=r"x-000009\.tar is a link that leads out"):
        plan_run(asked, "r")


def test_a_look_writes_nothing_and_says_what_a_run_would_do(asked, lake):
    commit(
        lake,
        Manifest(
            stage="raw",
            dataset="x",
            shard=1,
            revision=0,
            samples_in=1,
            parts=(),
            source=list_source(Store(asked.source))[1],
        ),
    )
    before = [item.key for item in lake.list()]
    assert next(iter(look(asked, Access()).lines())) == "raw: 2 new (000000 000002), 1 done"
    assert [item.key for item in lake.list()] == before


def test_a_look_at_a_lake_that_is_not_there_makes_none(asked, tmp_path):
    with pytest.raises(BadRequestError, match=r"^lake: .*is not there"):
        look(asked, Access())
    assert not (tmp_path / "lake").exists()


def test_a_damaged_manifest_stops_only_a_plan_of_its_own_shard(asked, lake):
    for shard in (0, 1):
        made = {"dataset": "x", "shard": shard, "revision": 0, "samples_in": 1, "parts": ()}
        commit(lake, Manifest(stage="raw", source=list_source(Store(asked.source))[shard], **made))
    key = "raw/x/_manifests/000001/r000.json"
    lake.put(key, lake.get(key).replace(b'"samples_in":1', b'"samples_in":7'))
    planned = plan_run(asked.model_copy(update={"shards": "000000,000002"}), "r")
    assert any(line.startswith("not asked for, but damaged: ") and key in line for line in planned.lines)
    with pytest.raises(DamagedObjectError, match=r"reliability\.md says how to mend it"):
        plan_run(asked, "r2")
