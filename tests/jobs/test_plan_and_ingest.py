from __future__ import annotations

import re

import pytest

from shardmill.adapters.store import ChangedObjectError, Store
from shardmill.core.planning import BadRequestError
from shardmill.jobs import ingest
from shardmill.jobs.ingest import ingest_shard
from shardmill.jobs.plan import list_source, plan_run, run_name
from shardmill.specs.manifest import SourceObject
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


def test_a_shard_is_copied_once_and_again_only_when_its_source_changed(lake, source):
    def ingest_now():
        found = list_source(Store(f"file://{source}"))
        return ingest_shard(lake, "x", 1, found[1])

    first, second = ingest_now(), ingest_now()
    (source / "x-000001.tar").write_bytes(b"other bytes")
    third = ingest_now()
    assert [(o.skipped, o.revision) for o in (first, second, third)] == [(False, 0), (True, 0), (False, 1)]
    assert third.why == "the source changed"
    assert len([item for item in lake.list("raw/x") if item.key.endswith(".tar")]) == 2


def test_a_source_that_changed_since_the_plan_is_not_copied(lake, source):
    planned = list_source(Store(f"file://{source}"))[1]
    (source / "x-000001.tar").write_bytes(b"other bytes")
    with pytest.raises(ChangedObjectError):
        ingest_shard(lake, "x", 1, planned)
    assert list(lake.list("raw/x")) == []


class Bucket:
    """A bucket whose object is read as these bytes, one after the other."""

    contents: tuple[bytes, ...] = ()

    def __init__(self, uri, settings=None):
        self.uri = uri

    def stream(self, key, version):
        first, *rest = Bucket.contents
        Bucket.contents = tuple(rest) or (first,)
        yield first


ENCRYPTED = SourceObject(uri="s3://bucket/x-000001.tar", size=4, version='"0123456789abcdef0123456789abcdef"')


def test_an_etag_that_only_looks_like_an_md5_does_not_stop_a_copy(lake, monkeypatch):
    monkeypatch.setattr(ingest, "Store", Bucket)
    monkeypatch.setattr(Bucket, "contents", (b"same",))
    assert not ingest_shard(lake, "x", 1, ENCRYPTED).skipped


def test_two_reads_that_differ_are_not_copied(lake, monkeypatch):
    monkeypatch.setattr(ingest, "Store", Bucket)
    monkeypatch.setattr(Bucket, "contents", (b"same", b"else"))
    with pytest.raises(ChangedObjectError, match="two reads differ"):
        ingest_shard(lake, "x", 1, ENCRYPTED)
    assert list(lake.list("raw/x")) == []
