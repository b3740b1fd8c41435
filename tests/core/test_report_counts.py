from __future__ import annotations

from shardmill.core.page_text import change_text, hours_text, moment_text, number_text, printable
from shardmill.core.report import Found, Prediction, TaskOutcome, written
from shardmill.core.report_counts import flow, group_rejects, shard_rows, task_rows
from shardmill.core.run_counts import state_of
from shardmill.core.showcase import choose_groups
from shardmill.specs.manifest import Manifest, Part, Reject, SourceObject, Video
from shardmill.specs.records import RecordPart, RecordSet
from shardmill.specs.run import PlannedShard, RunPlan, RunSpec
from shardmill.specs.shard_runs import BackfillSpec
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


def planned(*shards):
    return RunPlan(shards=tuple(PlannedShard(shard=n, source=SOURCE) for n in shards))


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
    before = Found(run, plan=planned(0, 1), manifests={"raw": {0: manifest("raw", 0, [], samples_in=1)}}).totals
    assert (before.shards, before.videos, before.clips, before.rejects) == (2, None, None, None)
    after = Found(
        run, plan=planned(0), manifests={"clips": {0: manifest("clips", 0, ["a"], [("b", "damaged")])}}
    ).totals
    assert (after.videos, after.clips, after.rejects) == (1, 2, 1)


def test_tasks_stand_in_the_order_of_the_pipeline_whatever_the_order_they_come_in():
    names = ["train", "own_task", "split_1", "plan", "split_0", "another"]
    rows = task_rows(TaskOutcome(name, "success", 1.0) for name in names)
    assert [row.task for row in rows] == ["plan", "split", "train", "own_task", "another"]


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


def step_of(found, what):
    return next(step for step in flow(found) if step.what == what)


def records(train, validation):
    parts = [(RecordPart(uri="file:///r", sha256="0" * 64, records=count),) for count in (train, validation)]
    return RecordSet(vocabulary=("x",), max_frames=1, train=parts[0], validation=parts[1])


def followed(features, train, validation, shards=1):
    run = RunSpec(run="r", started="2026-11-21T00:00:00+00:00", asked=VideoPipelineSpec())
    manifests = {
        "clips": {n: manifest("clips", n, ["a", "b", "c"], [("d", "damaged")]) for n in range(shards)},
        "features": {0: features},
    }
    return Found(run, plan=planned(*range(shards)), manifests=manifests, records=records(train, validation))


def test_every_video_is_followed_from_the_shards_to_the_records():
    steps = flow(followed(manifest("features", 0, ["a", "b"], [("c", "time_out")]), 1, 1))

    counts = [(step.came_in, step.goes_on, step.rejects, step.expected) for step in steps]
    assert counts == [(4, 3, 1, None), (3, 2, 1, 3), (2, 2, 0, 2)]
    assert all(step.balanced and not step.unfinished for step in steps)


def test_a_video_that_no_step_accounts_for_is_seen():
    lost = followed(manifest("features", 0, ["a"], [("c", "time_out")]), 1, 1)
    assert not step_of(lost, "videos with clips").balanced
    not_dealt = followed(manifest("features", 0, ["a", "b", "c"]), 1, 1)
    assert [step.balanced for step in flow(not_dealt)] == [True, True, False]


def test_shards_that_are_not_there_yet_are_not_called_lost():
    step = step_of(followed(manifest("features", 0, ["a", "b", "c"]), 2, 1, shards=2), "videos with clips")
    assert (step.came_in, step.expected, step.unfinished, step.balanced) == (3, 3, 1, True)


def test_the_worst_and_the_best_are_those_whose_labels_are_the_furthest_from_the_others():
    sure = [prediction(f"b{n}", "x", ("x", 0.5 + n / 10), ("y", 0.1)) for n in range(4)]
    wrong = [prediction(f"w{n}", "x", ("y", 0.9 - n / 10), ("x", 0.2)) for n in range(4)]
    middle = [prediction(f"m{n}", "x", ("x", 0.3), ("y", 0.25)) for n in range(8)]

    worst, best, others = choose_groups([*middle, *sure, *wrong], each=3)

    assert [one.video for one in worst.predictions] == ["w0", "w1", "w2"]
    assert [one.video for one in best.predictions] == ["b3", "b2", "b1"]
    assert len(others.predictions) == 3
    assert {one.video for one in others.predictions} <= {"w3", "b0", *(one.video for one in middle)}
    again = choose_groups([*wrong, *middle, *sure], each=3)
    assert again == (worst, best, others), "the order in which they come decides nothing"


def test_of_few_videos_each_is_shown_once():
    few = [prediction(f"v{n}", "x", ("x", n / 10)) for n in range(5)]
    groups = choose_groups(few, each=6)
    assert [(group.name, len(group.predictions)) for group in groups] == [("Worst", 3), ("Best", 2)]
    assert sorted(one.video for group in groups for one in group.predictions) == [f"v{n}" for n in range(5)]
    assert choose_groups([]) == ()


def test_a_label_that_is_not_even_listed_counts_against_a_video():
    both = Prediction("v", ("x", "z"), (("x", 0.9), ("y", 0.4)))
    assert both.hit and both.separation == -0.4 and both.found == 1 and both.unlisted == ("z",)
    assert Prediction("v", ("x",), (("x", 0.9), ("y", 0.4))).separation == 0.5
    assert Prediction("v", (), (("y", 0.4),)).separation == -0.4


def test_numbers_are_written_as_people_read_them():
    assert [change_text(value) for value in (0.1234, -0.1234, 0.0001, 12, -1200, 0, None)] == [
        *("+0.123", "−0.123", "±0", "+12", "−1\u202f200", "±0", "–")
    ]
    assert [number_text(value) for value in (0.5, 5, 12_345, None)] == ["0.500", "5", "12\u202f345", "–"]
    assert moment_text("2026-11-22T03:56:59+00:00") == "2026-11-22 03:56 UTC"
    assert moment_text("yesterday") == "yesterday"
    assert [hours_text(span) for span in ((0.1, 0.4), (0.001, 0.002), (1, 30), None)] == [
        *("6 – 24 min", "4 – 7 s", "1.0 – 30.0 h", "–")
    ]


def test_a_video_without_scores_is_a_miss():
    assert not prediction("v", "x").hit


def test_text_from_data_loses_what_could_turn_or_hide_it():
    assert printable("a\u202eb\x00c\x1b[31m\ud800") == "a\ufffdb\ufffdc\ufffd[31m\ufffd"
    assert printable("héllo 日本 ok") == "héllo 日本 ok"
    assert printable("x" * 400, 10) == "x" * 10 + "…"
    assert printable("x" * 10, 10) == "x" * 10


def test_a_revision_wrote_only_the_parts_in_its_own_folder():
    parts = [
        Part(name=f"clips/d/x/000003/r{revision:03d}/p.tar", size=size, sha256="0" * 64, samples=1)
        for revision, size in ((0, 1000), (1, 30))
    ]
    whole = manifest("clips", 3, ["a"])
    assert written(whole.model_copy(update={"revision": 1, "parts": tuple(parts)})) == 30


def test_a_preview_of_a_backfill_is_planned_and_not_a_success():
    for preview, state in ((True, "planned"), (False, "succeeded")):
        run = RunSpec(run="b", started="2026-11-22T00:00:00Z", asked=BackfillSpec(preview=preview))
        assert run.is_dry == preview
        assert state_of(Found(run, plan=planned(1)), failed=False) == state
