"""What a run comes to is estimated from what is known, and each figure says what it rests on."""

from __future__ import annotations

import time

import pytest

from shardmill.core.costs import BudgetError
from shardmill.core.emr_request import cluster_request
from shardmill.core.estimates import Load, core_hours_to_split, planned_stages, splitting, training
from shardmill.core.plan_lines import plan_lines
from shardmill.core.requested_nodes import NodeType
from shardmill.core.run_plan import Draft, Where, plan_costs
from shardmill.core.shard_states import IndexRow
from shardmill.core.side_costs import GIB, STORAGE, side_costs
from shardmill.specs.cluster import ClusterSpec
from shardmill.specs.manifest import SourceObject
from shardmill.specs.prices import Prices, Rates
from shardmill.specs.run import PlannedShard
from shardmill.specs.video_pipeline import VideoPipelineSpec

MB = 1_000_000
ALL = {"raw": "new", "clips": "new", "features": "new"}
RATES = Rates(
    source_mbit_s=(1.0, 4.0),
    clip_kb_s=(10.0, 20.0),
    record_kb_s=(1.0, 1.0),
    frames_share=(0.5, 1.0),
    split_core_seconds_mb=(0.5, 1.0),
    train_frames_s=(1000.0, 10_000.0),
    cluster_start_hours=(0.1, 0.5),
)
PRICES = Prices(
    region="us-east-1",
    as_of="2026-11",
    source="a test",
    instance_hour={"m5.xlarge": 0.2, "g4dn.xlarge": 0.5},
    emr_hour={"m5.xlarge": 0.05, "g4dn.xlarge": 0.1},
    volume_gib_month=0.073,
    storage_gib_month=0.02,
    put_thousand=0.005,
    get_thousand=0.0004,
    traffic_gib={"gs": 0.1, "s3": 0.09, "region": 0.02},
    rates=RATES,
)
TYPES = {"m5.xlarge": NodeType(4, own_disks=True), "g4dn.xlarge": NodeType(4, own_disks=True)}


def shard(number: int, size: int = 100 * MB, **todo: str) -> PlannedShard:
    return PlannedShard(shard=number, source=source(number, size), todo=todo)


def source(number: int, size: int) -> SourceObject:
    return SourceObject(uri=f"s3://b/s-{number:06d}.tar", size=size, version="v")


def row(
    number: int, *, size: int = 100 * MB, seconds: float = 400.0, videos: int = 10, size_out: int = 6 * MB
) -> IndexRow:
    return IndexRow(
        shard=number,
        revision=0,
        manifest_etag="e",
        manifest_sha256="0" * 64,
        source_uri="s3://b",
        source_size=size,
        source_version="v",
        by_reference=False,
        parts=1,
        bytes=size_out,
        samples_in=videos,
        videos=videos,
        clips=int(seconds / 2),
        seconds=seconds,
        rejects=0,
        retryable_rejects=0,
        tries=1,
    )


def load_of(*shards: PlannedShard, rows=(), **asked) -> Load:
    spec = VideoPipelineSpec(lake="s3://lake", **asked)
    return Load(spec, shards, {each.shard: each for each in rows}, RATES)


def plan(load: Load, *works: str, prices: Prices = PRICES):
    spec = {
        "name": "n",
        "run": "r1",
        "image_id": "ami-0123456789abcdef0",
        "log_uri": "s3://lake/logs",
        "deadline": "2026-11-21T12:00:00+00:00",
    }
    drafts = {work: Draft(cluster_request(ClusterSpec(work=work, **spec))) for work in works}
    return plan_costs(load, drafts, prices, Where("us-east-1", TYPES))


def test_what_is_to_be_done_is_counted_by_stage_and_reason():
    stages = planned_stages([shard(0, **ALL), shard(1, clips="the source changed", features="new"), shard(2)])
    assert [(stage.stage, stage.shards, stage.bytes) for stage in stages] == [
        ("ingest", 1, 100 * MB),
        ("split", 2, 200 * MB),
        ("features", 2, 200 * MB),
    ]
    assert stages[1].why == {"new": 1, "the source changed": 1}


def test_without_any_manifest_clips_are_expected_by_the_stated_rate():
    span, why = load_of(shard(0, **ALL)).clips
    assert span == pytest.approx((100, 400))  # 800 Mbit at 4 to 1 Mbit/s, 2 s each
    assert why == "2 s each; assumed: 1 to 4 Mbit/s of source, no shard is cut"


def test_shards_that_are_cut_tell_how_many_clips_the_others_hold():
    load = load_of(shard(0), shard(1), shard(2, 200 * MB, **ALL), rows=[row(0), row(1, seconds=800.0)])
    span, why = load.clips
    assert span == pytest.approx((400, 800))  # 1600 Mbit at 2 to 1 Mbit/s
    assert why == "2 s each; as 2 shards are cut already: 1 to 2 Mbit/s"


def test_a_video_that_counts_nothing_tells_nothing():
    assert load_of(shard(0, **ALL), rows=[row(1, seconds=0.0)]).clips[1].endswith("no shard is cut")


def test_training_counts_the_frames_of_all_shards_whatever_is_to_be_done():
    load = load_of(shard(0), rows=[row(0)], epochs=10, workers=2, validation_share=0.5)
    work = training(load)
    passes = 0.5 * 10 + 0.5 * 4
    assert work.hours == pytest.approx((400 * passes / (2 * 10_000) / 3600, 400 * passes / (2 * 1000) / 3600))
    assert "400 frames, 10 epochs, 1,000 to 10,000 frames a second and worker" in work.rests_on


def test_a_record_holds_three_hundred_frames_of_a_longer_video():
    assert load_of(shard(0), rows=[row(0, seconds=6000.0)]).frames[0] == pytest.approx((3000, 3000))


def test_a_split_cluster_has_no_more_busy_nodes_than_shards():
    load = load_of(shard(0, **ALL), shard(1, **ALL), shard(2), where="cluster")
    assert core_hours_to_split(load) == pytest.approx((100 / 3600, 200 / 3600))
    assert splitting(load, 1, 8).hours == pytest.approx((100 / 8 / 3600, 200 / 8 / 3600))
    assert splitting(load, 9, 8).hours == pytest.approx((100 / 16 / 3600, 200 / 16 / 3600))


def costs(load: Load, prices: Prices = PRICES):
    return {cost.what: cost for cost in side_costs(load, prices)}


def test_storage_is_what_clips_records_and_copies_take():
    stored = costs(load_of(shard(0, **ALL)))[STORAGE]
    assert stored.amount == pytest.approx((200 * 11_000 / GIB, 800 * 21_000 / GIB))
    assert stored.usd == pytest.approx((200 * 11_000 / GIB * 0.02, 800 * 21_000 / GIB * 0.02))
    copied = costs(load_of(shard(0, **ALL), ingest="copy"))[STORAGE]
    assert copied.amount[0] == pytest.approx((100 * MB + 200 * 11_000) / GIB)
    larger = costs(load_of(shard(0, **ALL), width=512, height=256))[STORAGE]
    assert larger.amount[0] == pytest.approx(200 * 41_000 / GIB)


def test_clips_that_are_there_tell_how_much_others_take():
    stored = costs(load_of(shard(0), shard(1, **ALL), rows=[row(0)]))[STORAGE]
    assert stored.amount == pytest.approx(2 * (400 * (15_000 + 1000) / GIB,))


@pytest.mark.parametrize(
    ("asked", "kind", "each"),
    [
        ({"source": "gs://b"}, "gs", 0.1),
        ({"source": "gs://b", "ingest": "copy"}, "gs", 0.1),
        ({"source": "s3://b", "source_connection": "other"}, "s3", 0.09),
    ],
)
def test_traffic_between_clouds_is_counted_once_and_at_most_twice(asked, kind, each):
    load = load_of(shard(0, GIB, **ALL), shard(1, GIB), **asked)
    cost = costs(load)[f"traffic from {asked['source']}"]
    assert cost.amount == (1, 2)
    assert cost.usd == pytest.approx((each, 2 * each))
    missing = costs(load, PRICES.model_copy(update={"traffic_gib": {}}))[f"traffic from {asked['source']}"]
    assert (missing.usd, missing.unknown) == (None, (f"traffic_gib.{kind}",))


def test_traffic_within_a_region_costs_nothing_and_from_another_region_something():
    within = load_of(shard(0, GIB, **ALL), source="s3://b")
    assert "traffic from s3://b" not in costs(within)
    abroad = Load(within.asked, within.shards, {}, RATES, other_region=True)
    assert costs(abroad)["traffic from s3://b"].usd == pytest.approx((0.02, 0.04))


@pytest.mark.parametrize(
    ("field", "what"),
    [
        ("storage_gib_month", STORAGE),
        ("put_thousand", "requests that write"),
        ("get_thousand", "requests that read"),
    ],
)
def test_each_price_that_is_missing_is_named_and_counted_nowhere(field, what):
    prices = PRICES.model_copy(update={field: None})
    planned = plan(load_of(shard(0, **ALL)), prices=prices)
    assert planned.unknown == (field,)
    assert planned.most_usd < plan(load_of(shard(0, **ALL))).most_usd
    assert f"{what}: no price known for {field}" in list(plan_lines(planned))
    assert planned.summary.endswith("USD, and what has no price")


def test_prices_of_another_region_are_none():
    load = load_of(shard(0, **ALL), source="gs://b")
    planned = plan(load, "train", prices=PRICES.model_copy(update={"region": "eu-west-1"}))
    assert planned.most_usd == 0
    assert planned.unknown == (
        "all prices: they are those of eu-west-1, the cluster runs in us-east-1",
        *("storage_gib_month", "put_thousand", "get_thousand", "traffic_gib.gs"),
    )


def test_three_thousand_shards_of_which_all_are_cut_are_summed_up_at_once():
    shards = [shard(number, features="new") for number in range(3000)]
    load = load_of(*shards, rows=[row(number) for number in range(3000)])
    started = time.process_time()
    assert plan(load, "train").clips is None
    assert time.process_time() - started < 2


def test_requests_grow_with_shards_and_bytes():
    few, many = costs(load_of(shard(0, **ALL))), costs(load_of(*(shard(n, **ALL) for n in range(10))))
    for name in ("requests that write", "requests that read"):
        assert few[name].amount[0] > 8
        assert many[name].amount == pytest.approx(tuple(10 * value for value in few[name].amount))


def test_nothing_to_do_costs_nothing():
    planned = plan(load_of(shard(0), rows=[row(0)]))
    assert (planned.costs, planned.stages, planned.clips) == ((), (), None)
    assert planned.summary == "no cluster is needed"


def test_a_plan_is_told_line_by_line_with_what_it_rests_on():
    planned = plan(load_of(shard(0, **ALL), shard(1), rows=[row(1)], epochs=100), "train")
    cluster = planned.clusters[0]
    assert cluster.hours == pytest.approx((0.1 + 800 * 80.8 / 20_000 / 3600, 0.5 + 800 * 80.8 / 2000 / 3600))
    lines = list(plan_lines(planned))
    assert "requests that write: 14.8 to 44.3 requests, less than 0.01 USD (14 a shard" in "\n".join(lines)
    assert lines[0] == "ingest: 1 shard to do, 100 MB at the source: 1 new"
    assert "expected: 200 clips (2 s each; as 1 shard is cut already: 2 Mbit/s)" in lines
    assert any(
        line.startswith("cluster to train: 0.1 to 0.51 hours, 0.15 to 0.74 USD expected (800 frames") for line in lines
    )
    assert any(line.endswith("USD if it lasts until max_hours = 6") for line in lines)
    assert any(line.startswith("split on Airflow's own workers: 0.014 to 0.028 core-hours") for line in lines)
    assert lines[-1] == "prices: us-east-1, 2026-11: a test"


def test_hours_that_are_expected_never_exceed_the_deadline():
    planned = plan(load_of(shard(0, **ALL), max_hours=0.2), "train")
    assert planned.clusters[0].hours[1] == 0.2


def test_a_cluster_whose_work_cannot_fit_is_refused_before_it_is_made():
    load = load_of(shard(0), rows=[row(0, seconds=400_000.0, videos=4000)], epochs=1000, workers=1)
    with pytest.raises(BudgetError, match=r"max_hours: to train takes at least 8\.9 hours"):
        plan(load, "train")
    with pytest.raises(BudgetError, match="max_hours: to split takes at least"):
        plan(load_of(shard(0, 10**12, **ALL), where="cluster"), "split")
    plan(load_of(shard(0, 10**12, **ALL), where="cluster", max_hours=100), "split")
