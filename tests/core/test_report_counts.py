from __future__ import annotations

from shardmill.core.report import (
    Found,
    Prediction,
    TaskOutcome,
    choose_shown,
    group_rejects,
    printable,
    shard_rows,
    task_rows,
)
from shardmill.specs.manifest import Manifest, Part, Reject, SourceObject, Video
from shardmill.specs.run import RunSpec
from shardmill.specs.video_pipeline import VideoPipelineSpec

SOURCE = SourceObject(uri="file:///source/a-000000.tar", size=7, version="v")


def manifest(stage, shard, videos, rejects=(), samples_in=None):
    videos = tuple(Video(key=key, clips=2) for key in videos)
    part = Part(name="p.tar", size=1000, sha256="0" * 64, samples=1 if stage == "raw" else 2 * len(videos))
    return Manifest(
        stage=stage,
        dataset="d",
        shard=shard,
        revision=0,
        source=SOURCE,
        samples_in=len(videos) + len(rejects) if samples_in is None else samples_in,
        parts=(part,),
        videos=videos,
        rejects=tuple(Reject(key=key, reason=reason, message="m") for key, reason in rejects),
    )


def prediction(video, truth, *scores):
    return Prediction(video, (truth,), tuple(scores))


def test_a_shard_in_balance_is_not_odd():
    manifests = {
        "raw": {3: manifest("raw", 3, [], samples_in=1)},
        "clips": {3: manifest("clips", 3, ["a", "b"])},
        "features": {3: manifest("features", 3, ["a", "b"])},
    }

    (row,) = shard_rows([3], manifests)

    assert (row.clips.samples_in, row.clips.published, row.clips.rejects, row.clip_count) == (2, 2, 0, 4)
    assert row.raw.balanced and row.clips.balanced and row.features.balanced
    assert not row.odd


def test_a_video_lost_between_two_stages_is_out_of_balance():
    manifests = {
        "clips": {0: manifest("clips", 0, ["a", "b", "c"])},
        "features": {0: manifest("features", 0, ["a", "b"])},
    }

    (row,) = shard_rows([0], manifests)

    assert row.clips.balanced
    assert not row.features.balanced
    assert row.odd


def test_a_video_lost_inside_a_stage_is_out_of_balance():
    (row,) = shard_rows([0], {"clips": {0: manifest("clips", 0, ["a"], samples_in=3)}})

    assert not row.clips.balanced


def test_a_stage_that_was_not_reached_is_none_and_odd():
    (row,) = shard_rows([7], {})

    assert (row.raw, row.clips, row.features, row.clip_count) == (None, None, None, None)
    assert row.odd


def test_rejects_are_grouped_by_stage_and_reason_with_few_examples():
    manifests = {
        "clips": {
            0: manifest("clips", 0, ["v"], [(f"k{i}", "damaged") for i in range(3)] + [("t", "not_a_video")]),
            1: manifest("clips", 1, ["v"], [(f"l{i}", "damaged") for i in range(4)]),
        },
        "features": {0: manifest("features", 0, [], [("v", "damaged")])},
    }

    first, *rest = group_rejects(manifests, examples=2)

    assert (first.stage, first.reason, first.count) == ("clips", "damaged", 7)
    assert [(shard, reject.key) for shard, reject in first.examples] == [(0, "k0"), (0, "k1")]
    assert [(group.stage, group.reason, group.count) for group in rest] == [
        ("clips", "not_a_video", 1),
        ("features", "damaged", 1),
    ]


def test_totals_are_unknown_before_clips_exist():
    run = RunSpec(run="r", started="2026-11-21T00:00:00+00:00", asked=VideoPipelineSpec())

    assert Found(run).totals.shards is None
    before = Found(run, shards=(0, 1), manifests={"raw": {0: manifest("raw", 0, [], samples_in=1)}}).totals
    assert (before.shards, before.videos, before.clips, before.rejects) == (2, None, None, None)
    after = Found(run, shards=(0,), manifests={"clips": {0: manifest("clips", 0, ["a"], [("b", "damaged")])}}).totals
    assert (after.videos, after.clips, after.rejects) == (1, 2, 1)


def test_mapped_tasks_are_one_row_with_the_worst_state_and_the_sum_of_seconds():
    outcomes = [
        TaskOutcome("plan", "success", 1.0),
        TaskOutcome("split_0", "success", 10.0),
        TaskOutcome("split_1", "failed", 5.0),
        TaskOutcome("label", "upstream_failed", None),
        TaskOutcome("publish", "skipped"),
    ]

    rows = task_rows(outcomes)

    assert [(row.task, row.state, row.count, row.seconds) for row in rows] == [
        ("plan", "success", 1, 1.0),
        ("split", "failed", 2, 15.0),
        ("label", "upstream_failed", 1, None),
        ("publish", "skipped", 1, None),
    ]


def test_misses_come_first_and_leave_half_of_the_places_to_hits():
    hits = [prediction(f"h{i}", "x", ("x", 0.5 + i / 100)) for i in range(10)]
    misses = [prediction(f"m{i}", "x", ("y", 0.1 * i), ("x", 0.0)) for i in range(10)]

    shown = choose_shown([*hits, *misses], 8)

    assert [p.video for p in shown] == ["m9", "m8", "m7", "m6", "h0", "h1", "h2", "h3"]
    assert [p.video for p in choose_shown(misses, 3)] == ["m9", "m8", "m7"]
    assert len(choose_shown([*hits, *misses[:1]], 8)) == 8
    assert choose_shown([], 8) == ()


def test_a_video_without_scores_is_a_miss():
    assert not prediction("v", "x").hit


def test_text_from_data_loses_what_could_turn_or_hide_it():
    assert printable("a\u202eb\x00c\x1b[31m\ud800") == "a\ufffdb\ufffdc\ufffd[31m\ufffd"
    assert printable("héllo 日本 ok") == "héllo 日本 ok"
    assert printable("x" * 400, 10) == "x" * 10 + "…"
    assert printable("x" * 10, 10) == "x" * 10
