"""What a run on records comes to is reckoned from the sizes of its files."""

from __future__ import annotations

import pytest

from shardmill.adapters.prices import read_prices
from shardmill.core.record_estimates import RecordLoad, plan_record_costs
from shardmill.core.run_plan import Where
from shardmill.specs.record_files import PlannedFile, RecordPlan
from shardmill.specs.train_on_records import TrainOnRecordsSpec

PRICES = read_prices("", None)
MB = 1_000_000


def load(*sizes: int | None, to_do: int | None = None, **asked) -> RecordLoad:
    files = tuple(
        PlannedFile(subset="validation" if number == 0 else "train", uri=f"s3://b/{number}.tfrecord", size=size)
        for number, size in enumerate(sizes)
    )
    todo = frozenset(range(len(sizes) if to_do is None else to_do))
    return RecordLoad(TrainOnRecordsSpec(**asked), RecordPlan(files=files), todo, PRICES.rates)


def plan(made: RecordLoad):
    return plan_record_costs(made, {}, PRICES, Where(PRICES.region, {}))


def test_frames_follow_from_the_bytes_and_means_count_as_one():
    least, most = load(10 * MB, 117 * MB).frames("train")
    assert 97_000 < least < 100_000 < most < 102_000
    video = {"train_partition": "2/video/train", "validation_partition": "2/video/validate", "origin": "mirror"}
    assert load(10 * MB, 47 * MB, **video).frames("train")[1] == pytest.approx(47 * MB / 4608)


def test_files_of_unknown_size_count_as_the_mean_of_the_others():
    made = load(10 * MB, 30 * MB, None, None)
    assert made.bytes() == 80 * MB
    assert made.bytes("train") == 70 * MB
    assert made.plan.bytes == (80 * MB, False)
    assert "by the sizes of some of their files" in plan_text(made)


def plan_text(made: RecordLoad) -> str:
    from shardmill.core.record_estimates import _training

    return _training(made).rests_on


def test_files_that_are_copied_are_stored_and_those_that_are_read_where_they_lie_are_not():
    copied, read = (plan(load(10 * MB, 90 * MB, ingest=ingest)) for ingest in ("copy", "reference"))
    assert [cost.what for cost in copied.costs] == ["storage, a month", "requests that write", "requests that read"]
    assert [cost.what for cost in read.costs] == ["requests that write", "requests that read"]
    assert copied.costs[0].amount[0] == pytest.approx(0.1e9 / 1024**3)


def test_a_run_whose_files_are_all_known_has_nothing_to_fetch():
    planned = plan(load(10 * MB, 90 * MB, to_do=0))
    assert planned.stages == ()
    assert [cost.what for cost in planned.costs] == ["requests that read"]


def test_the_plan_counts_files_not_shards():
    from shardmill.core.plan_lines import plan_lines

    line = next(plan_lines(plan(load(10 * MB, 90 * MB))))
    assert line == "fetch: 2 files to do, 100 MB at the source: 2 to be counted"


def test_traffic_from_another_cloud_is_planned_and_from_a_mirror_it_is_none():
    out_of = plan(load(10 * MB, 90 * MB, source="gs://b/x", validation_source="gs://b/y", ingest="copy"))
    assert any(cost.what == "traffic from gs://b/x" for cost in out_of.costs)
    fetched = plan(load(10 * MB, 90 * MB, origin="mirror"))
    assert not any("traffic" in cost.what for cost in fetched.costs)
    assert any("into AWS it is free" in remark for remark in fetched.remarks)
