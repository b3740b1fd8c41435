"""A run on records is planned, priced, refused, reported and verified as the others are."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from local_account import local_account

from shardmill import stages
from shardmill.adapters.access import Access
from shardmill.adapters.roots import Roots
from shardmill.adapters.run_folder import freeze, load
from shardmill.adapters.store import Store
from shardmill.core.costs import BudgetError
from shardmill.core.page_making import settings
from shardmill.core.planning import BadRequestError
from shardmill.core.report import TaskOutcome
from shardmill.jobs.plan_records import plan_records
from shardmill.jobs.report import summarise, write_report
from shardmill.jobs.sample_records import RecordSample, put_record_sample
from shardmill.jobs.verify import Verifying, verify
from shardmill.specs.records import Predictions, VideoPrediction
from shardmill.specs.run import RunClusters
from shardmill.specs.train_on_records import TrainOnRecordsSpec

SMALL = RecordSample(train=24, validation=6, train_files=2, validation_files=1, frames=(3, 5))


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    with local_account(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    put_record_sample(folder.as_uri(), sample=SMALL)
    return folder


@pytest.fixture
def plan(account, sample, tmp_path, monkeypatch):
    """Plan a run up to its budget; gives it open."""
    from shardmill_airflow import account_look, spending

    for module in (account_look, spending):
        monkeypatch.setattr(module, "client", account[0])
    access = Access(roots=Roots((f"file://{sample}",), (f"file://{tmp_path}",)))

    def make(run="r1", **asked):
        values = {
            "source": f"file://{sample}/train",
            "validation_source": f"file://{sample}/validate",
            "lake": f"file://{tmp_path}/lake",
            "ingest": "copy",
            "batch_size": 8,
        }
        planned = plan_records(TrainOnRecordsSpec(**(values | asked)), run, access)
        opened = stages.open_run(planned.spec_uri, lambda connection: access)
        return SimpleNamespace(opened=opened, planned=planned, costs=lambda: spending.plan_clusters(opened))

    return make


def test_its_one_cluster_and_what_it_may_cost_are_written_down_before_anything_is_made(plan):
    run = plan()
    planned = run.costs()
    assert load(run.opened.lake, "r1", "clusters.json", RunClusters) == planned
    assert [cluster.work for cluster in planned.clusters] == ["train"]
    assert planned.clips is None
    assert [(stage.stage, stage.shards, stage.unit) for stage in planned.stages] == [("fetch", 3, "file")]
    assert "frames by the sizes of their files, 12 epochs" in planned.clusters[0].rests_on
    assert any(line.startswith("fetch: 3 files to do") for line in planned.words)
    assert any(line.startswith("cluster to train: ") and "executors" in line for line in planned.words)


def test_a_limit_in_usd_holds_for_it_too(plan):
    with pytest.raises(BudgetError, match="max_usd: "):
        plan(max_usd=1.0).costs()


def test_a_cluster_to_split_is_never_needed(plan):
    from airflow.sdk.exceptions import AirflowSkipException

    from shardmill_airflow.run_clusters import why_none

    opened = plan().opened
    with pytest.raises(AirflowSkipException, match="no videos to cut"):
        why_none(opened, "split")
    assert why_none(opened, "train") == ""


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"source": "file:///data"}, "source: the cluster reads s3://"),
        ({"validation_source": "gs://b/x"}, "validation_source: the cluster reads s3://"),
        ({"source_connection": "gcs"}, "source: the cluster reads s3://"),
    ],
)
def test_records_that_nodes_cannot_read_are_refused_before_they_cost(asked, message):
    from shardmill_airflow.run_clusters import check_records_reach

    with pytest.raises(BadRequestError, match=message):
        check_records_reach(TrainOnRecordsSpec(**asked))
    check_records_reach(TrainOnRecordsSpec(ingest="copy", **asked))
    check_records_reach(TrainOnRecordsSpec(origin="mirror", **asked))


def test_nodes_read_the_buckets_that_hold_the_records(plan):
    from shardmill_airflow.account_look import _buckets

    def buckets(**asked):
        opened = SimpleNamespace(run=SimpleNamespace(asked=TrainOnRecordsSpec(lake="s3://lake", **asked)))
        return _buckets(opened, ["train"])

    places = {"source": "s3://a/x", "validation_source": "s3://b/y"}
    assert set(buckets(**places)) == {"a", "b", "lake"}
    assert set(buckets(**places, ingest="copy")) == {"lake"}
    assert set(buckets(**places, origin="mirror")) == {"lake"}


def settle(opened) -> list[str]:
    lines: list[str] = []
    for stage in ("fetch", "find"):
        stages.STAGES[stage](opened, opened.numbers, lines.append)
    return lines


def test_its_report_counts_files_and_names_those_that_cannot_be_used(plan, sample):
    bad = sample / "train" / "bad.tfrecord"
    bad.write_bytes(b"no records at all, but long enough")
    try:
        run = plan("r2", max_reject_share=0.5)
        lines = settle(run.opened)
    finally:
        bad.unlink()
    assert any("REFUSED" in line and "bad.tfrecord" in line for line in lines)
    run.costs()
    uri = write_report(run.opened.lake, run.opened.run, [TaskOutcome("fetch", "success", 2.0)], failure="")
    page = run.opened.lake.get(uri.removeprefix(f"{run.opened.lake.uri}/")).decode()
    for text in (
        "files not used",
        "bad.tfrecord",
        "expected the header of a record",
        "fetch",
        "train_partition",
        "records in the files",
    ):
        assert text in page, text
    for text in ("Shard by shard", "✗", "not encoded again", "clips' recipe"):
        assert text not in page, text
    assert summarise(run.opened.lake, run.opened.run).gap is None


def test_its_videos_have_no_pictures_and_the_report_promises_none(plan):
    run = plan()
    settle(run.opened)
    listed = {"v1": VideoPrediction(labels=("1",), top=(("1", 0.9), ("2", 0.1)))}
    freeze(run.opened.lake, "r1", "predictions.json", Predictions(inputs="x", videos=1, listed=listed))
    uri = write_report(run.opened.lake, run.opened.run, [])
    page = run.opened.lake.get(uri.removeprefix(f"{run.opened.lake.uri}/")).decode()
    assert "✓ right" in page
    assert "no clip could be read" not in page and "<video" not in page
    assert "in the middle of its video" not in page


def test_its_settings_stand_in_the_sections_of_its_form():
    sections = [section.name for section in settings(TrainOnRecordsSpec())]
    assert sections == ["What", "Data", "Mirror", "Where", "Train", "Guards", "Notify"]


def test_it_is_verified_down_to_the_bytes_of_its_files(plan):
    run = plan()
    settle(run.opened)
    lake: Store = run.opened.lake
    assert verify(run.opened.run.folder, how=Verifying(deep=True)).is_whole
    key = next(item.key for item in lake.list("records/sample/train") if item.key.endswith(".tfrecord"))
    content = bytearray(lake.get(key))
    content[100] ^= 1
    lake.put(key, bytes(content))
    assert verify(run.opened.run.folder).is_whole
    (broken,) = [one for one in verify(run.opened.run.folder, how=Verifying(deep=True)).findings if one.is_broken]
    assert broken.kind == "damaged" and broken.uri.endswith(key.rpartition("/")[2])
    lake.delete([key])
    (gone,) = [one for one in verify(run.opened.run.folder).findings if one.is_broken]
    assert gone.kind == "missing" and gone.uri.endswith(key.rpartition("/")[2])
