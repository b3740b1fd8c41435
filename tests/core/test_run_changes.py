"""What a report says of the difference to the run before."""

from __future__ import annotations

import pytest

from shardmill.core.report import Earlier, Found, Prediction
from shardmill.core.run_changes import NumberChange, changes
from shardmill.specs.fresh import Fresh
from shardmill.specs.manifest import SourceObject
from shardmill.specs.records import LabelScore, MetricsReport, RecordPart, RecordSet
from shardmill.specs.result import RunResult
from shardmill.specs.run import PlannedShard, RunLabels, RunPlan, RunSpec
from shardmill.specs.shard_runs import NightlySpec
from shardmill.specs.video_pipeline import VideoPipelineSpec

LABELS = RunLabels(digest="abcdef012345", vocabulary=("a", "b"), videos=4, labelled=4)


def run(name, **asked):
    return RunSpec(run=name, started="2026-11-21T00:00:00+00:00", asked=VideoPipelineSpec(**asked))


def plan(**versions):
    source = SourceObject(uri="file:///s", size=1, version="v")
    shards = [
        PlannedShard(shard=int(name[1:]), source=source.model_copy(update={"version": version}))
        for name, version in versions.items()
    ]
    return RunPlan(shards=tuple(shards))


def metrics(gap, videos=6, **precisions):
    labels = [
        LabelScore(label=label, average_precision=value, positives=3, training_positives=3)
        for label, value in precisions.items()
    ]
    scores = {"map": 0.5, "hit_at_1": 0.5, "perr": 0.5, "gap_constant": 0.1}
    return MetricsReport(inputs="i", videos=videos, loss=0.2, gap=gap, labels=tuple(labels), **scores)


def records(validation="0"):
    parts = [(RecordPart(uri="file:///r", sha256=digit * 64, records=6),) for digit in ("1", validation)]
    return RecordSet(vocabulary=("a", "b"), max_frames=1, train=parts[0], validation=parts[1])


def test_without_an_earlier_run_there_is_nothing_to_compare():
    assert changes(Found(run("now")), RunResult(state="succeeded")) is None


def test_exactly_the_fields_that_were_asked_for_otherwise_are_named():
    earlier = Earlier(run("then", epochs=3, crf=20.0))
    found = changes(Found(run("now", epochs=5, crf=20.0), earlier=earlier), RunResult(state="failed"))
    assert [(one.name, one.before, one.now) for one in found.fields] == [("epochs", "3", "5")]
    assert (found.scores, found.counts, found.labels, found.lines) == ((), (), (), ())


@pytest.mark.parametrize(
    ("asked", "says"),
    [({"crf": 25.0}, "every video was to be cut anew"), ({"validation_share": 0.4}, "of the records is another")],
)
def test_another_recipe_is_named_for_it_is_why_work_is_done_again(asked, says):
    found = changes(Found(run("now", **asked), labels=LABELS, earlier=Earlier(run("then"))), RunResult(state="failed"))
    assert len(found.lines) == 1 and says in found.lines[0]


def test_shards_that_came_went_or_changed_at_the_source_are_counted():
    earlier = Earlier(run("then"), plan=plan(s0="v", s1="v", s2="v"))
    found = Found(run("now"), plan=plan(s1="v", s2="w", s3="v", s4="v"), earlier=earlier)
    assert changes(found, RunResult(state="failed")).lines == (
        "Of 5 shards: 2 not in the run before, 1 changed at the source, 1 no longer in this run.",
    )
    same = Found(run("now"), plan=earlier.plan, earlier=earlier)
    assert changes(same, RunResult(state="failed")).lines == ("The same 3 shards, unchanged at the source.",)


@pytest.mark.parametrize(
    ("validation", "videos", "says"),
    [
        ("0", "abc", "of the same 6 validation videos, and of the same records"),
        ("2", "abc", "of the same 6 validation videos; their records were made anew"),
        ("0", "abd", "of other validation videos, 6 then and 6 now: mind that"),
    ],
)
def test_scores_of_other_videos_are_not_passed_off_as_comparable(validation, videos, says):
    earlier = Earlier(run("then"), metrics=metrics(0.9), records=records("0"), videos=frozenset("abc"))
    said = tuple(Prediction(video, ("a",), ()) for video in videos)
    found = Found(run("now"), metrics=metrics(0.8), records=records(validation), predictions=said, earlier=earlier)
    assert says in changes(found, RunResult(state="succeeded")).lines[-1]


def test_scores_over_other_labels_are_said_to_be():
    earlier = Earlier(run("then"), metrics=metrics(0.9), records=records())
    other = records().model_copy(update={"vocabulary": ("a", "c")})
    found = changes(Found(run("now"), metrics=metrics(0.8), records=other, earlier=earlier), RunResult(state="x"))
    assert "whose labels are other ones" in found.lines[-1]


def test_scores_are_compared_one_by_one_and_a_lower_loss_is_better():
    earlier = Earlier(run("then"), metrics=metrics(0.9).model_copy(update={"loss": 0.3}))
    found = changes(Found(run("now"), metrics=metrics(0.8), earlier=earlier), RunResult(state="succeeded"))
    by_name = {one.name: one for one in found.scores}
    assert by_name["GAP@20"].difference == pytest.approx(-0.1) and by_name["GAP@20"].verdict == "worse"
    assert by_name["loss"].difference == pytest.approx(-0.1) and by_name["loss"].verdict == "better"
    assert by_name["PERR"].verdict == ""


def test_labels_are_named_by_how_far_they_moved():
    before = metrics(0.9, a=0.5, b=0.9, c=0.7, gone=0.5)
    now = metrics(0.9, a=0.55, b=0.4, c=0.7, new=0.5)
    found = changes(Found(run("now"), metrics=now, earlier=Earlier(run("then"), metrics=before)), RunResult(state="x"))
    assert [(one.name, one.verdict) for one in found.labels] == [("b", "worse"), ("a", "better")]


def test_counts_are_held_against_those_of_the_report_before():
    result = RunResult(state="succeeded", counts={"clips": 10, "rejects": 2}, rejects={"clips, damaged": 2})
    now = RunResult(state="succeeded", counts={"clips": 12, "labels": 3, "rejects": 1}, rejects={"clips, time_out": 1})
    found = changes(Found(run("now"), earlier=Earlier(run("then"), result=result)), now)
    assert [(one.name, one.before, one.now, one.difference) for one in found.counts] == [
        ("clips", 10, 12, 2),
        ("labels", None, 3, None),
        ("rejects", 2, 1, -1),
        ("rejects: clips, time_out", 0, 1, 1),
        ("rejects: clips, damaged", 2, 0, -2),
    ]
    assert [one.verdict for one in found.counts] == ["", "", "", "worse", "better"]


def test_a_run_that_did_not_come_so_far_has_no_fewer_rejects():
    result = RunResult(state="succeeded", counts={"rejects": 2}, rejects={"clips, damaged": 2})
    now = RunResult(state="failed", counts={"shards": 3}, rejects={})
    found = changes(Found(run("now"), earlier=Earlier(run("then"), result=result)), now)
    by_name = {one.name: (one.before, one.now, one.verdict) for one in found.counts}
    assert by_name["rejects: clips, damaged"] == (2, None, "")


def test_a_move_that_is_not_seen_is_neither_better_nor_worse():
    assert NumberChange("GAP", 0.90001, 0.90002, more_is_better=True).verdict == ""


def test_time_and_cost_are_compared_where_either_run_knows_them():
    then = RunResult(state="succeeded", seconds={"split": 10.0, "plan": 1.0}, took=60.0, usd=2.0)
    now = RunResult(state="succeeded", seconds={"split": 4.0, "train": 5.0}, took=50.0)
    found = changes(Found(run("now"), earlier=Earlier(run("then"), result=then)), now)
    assert [(one.name, one.before, one.now, one.difference) for one in found.seconds] == [
        ("start to report", 60.0, 50.0, -10.0),
        ("split", 10.0, 4.0, -6.0),
        ("train", None, 5.0, None),
    ]
    assert (found.usd.before, found.usd.now, found.usd.verdict) == (2.0, None, "")
    nothing = RunResult(state="failed")
    assert changes(Found(run("now"), earlier=Earlier(run("then"), result=nothing)), nothing).usd is None


def fresh(**records):
    told = {int(name[1:]): digest for name, digest in records.items()}
    return Fresh(dataset="d", recipe="r", shards="", count=len(told), missing={}, digest="d", records=told)


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"s0": "a"}, {"s0": "a"}, "Fresh shards: 1 then and 1 now."),
        (
            {"s0": "a", "s1": "a", "s9": "a"},
            {"s0": "a", "s1": "b", "s2": "a", "s3": "a"},
            "Fresh shards: 3 then and 4 now; 2 came: 000002..000003; 1 were made anew; 1 are so no longer: 000009.",
        ),
    ],
)
def test_a_night_is_held_against_the_one_before_by_what_is_fresh_for_its_plan_holds_only_what_was_due(
    before, now, said
):
    spec = RunSpec(run="next", started="2026-11-22T00:00:00+00:00", asked=NightlySpec())
    earlier = Earlier(spec.model_copy(update={"run": "night"}), plan=plan(s0="v"), fresh=fresh(**before))
    found = changes(Found(spec, plan=plan(s1="v"), fresh=fresh(**now), earlier=earlier), RunResult(state="succeeded"))
    assert found.lines == (said,)


@pytest.mark.parametrize(
    ("then", "recipe", "said"),
    [
        ({"shards": "000000..000099"}, "r", "the run before asked for another range"),
        ({}, "s", "the records are of another recipe"),
    ],
)
def test_nights_over_other_ranges_or_by_other_recipes_are_not_compared_shard_by_shard(then, recipe, said):
    night = RunSpec(run="night", started="2026-11-22T00:00:00+00:00", asked=NightlySpec(**then))
    spec = night.model_copy(update={"run": "next", "asked": NightlySpec()})
    before = fresh(s0="a", s1="a").model_copy(update={"recipe": recipe})
    found = Found(spec, fresh=fresh(s0="a", s7="a"), earlier=Earlier(night, fresh=before))
    lines = changes(found, RunResult(state="succeeded")).lines
    assert lines == (f"Fresh shards are not compared: {said}.",)
