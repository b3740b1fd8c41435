from __future__ import annotations

from dataclasses import replace

import pytest

from shardmill.core.shard_states import (
    IndexRow,
    ShardState,
    ShardStates,
    index_row,
    judge_clips,
    judge_features,
    judge_raw,
)
from shardmill.specs.manifest import Manifest, Part, Reject, SourceObject, Video

SOURCE = SourceObject(uri="s3://b/x-000003.tar", size=10, version="v1")
CHANGED = SOURCE.model_copy(update={"version": "v2"})
PART = Part(name="raw/x/000003/r000/x.tar", size=10, sha256="a", samples=1)


def manifest(**changes) -> Manifest:
    values = {
        "stage": "clips",
        "dataset": "x",
        "shard": 3,
        "revision": 0,
        "source": SOURCE,
        "samples_in": 0,
        "parts": (),
    }
    return Manifest(**(values | changes))


def row(**changes) -> IndexRow:
    return replace(index_row(manifest(), "etag", "sha-of-clips"), **changes)


def test_a_row_sums_up_a_manifest():
    found = index_row(
        manifest(
            samples_in=5,
            parts=(PART, PART),
            videos=(Video(key="a", clips=3, seconds=5.5), Video(key="b", clips=1, seconds=1.0)),
            rejects=tuple(
                Reject(key=reason, reason=reason, message="m") for reason in ("damaged", "time_out", "killed")
            ),
        ),
        "etag",
        "sha",
        tries=2,
    )
    assert (found.parts, found.bytes, found.samples_in, found.videos, found.clips) == (2, 20, 5, 2, 4)
    assert (found.seconds, found.rejects, found.retryable_rejects, found.tries) == (6.5, 3, 2, 2)
    assert (found.source, found.manifest_etag, found.manifest_sha256) == (SOURCE, "etag", "sha")


@pytest.mark.parametrize(
    ("found", "ingest", "expected"),
    [
        (None, "reference", ("new", "new")),
        (row(), "reference", ("done", "present, made from the same source")),
        (row(by_reference=True), "copy", ("stale", "it is only referenced, a copy is asked for")),
        (row(by_reference=False), "copy", ("done", "present, made from the same source")),
        (row(source_version="v0"), "reference", ("stale", "the source changed")),
        (row(source_size=9), "copy", ("stale", "the source changed")),
        (row(source_uri="s3://other/x-000003.tar"), "copy", ("stale", "the source changed")),
    ],
)
def test_a_raw_shard_is_judged_by_its_source_and_by_whether_a_copy_is_asked(found, ingest, expected):
    state = judge_raw(found, SOURCE, ingest)
    assert (state.state, state.why) == expected


def test_only_a_raw_shard_without_parts_is_used_where_it_lies():
    assert index_row(manifest(stage="raw"), "e", "s").by_reference
    assert not index_row(manifest(stage="raw", parts=(PART,)), "e", "s").by_reference
    assert not index_row(manifest(stage="clips"), "e", "s").by_reference


@pytest.mark.parametrize(
    ("found", "elsewhere", "expected"),
    [
        (None, False, ("new", "new")),
        (None, True, ("stale", "made by another recipe")),
        (row(), True, ("done", "present, made from the same source")),
        (row(source_version="v0"), False, ("stale", "the source changed")),
    ],
)
def test_clips_are_judged_by_their_source_and_by_what_other_recipes_made(found, elsewhere, expected):
    state = judge_clips(found, SOURCE, elsewhere=elsewhere)
    assert (state.state, state.why) == expected


CLIPS_DONE = judge_clips(row(), SOURCE, elsewhere=False)
CLIPS_NEW = judge_clips(None, SOURCE, elsewhere=False)
CLIPS_STALE = judge_clips(row(), CHANGED, elsewhere=False)


@pytest.mark.parametrize(
    ("found", "clips", "known", "elsewhere", "expected"),
    [
        (None, CLIPS_DONE, True, False, ("new", "new")),
        (None, CLIPS_DONE, True, True, ("stale", "made by another recipe")),
        (
            row(source_version="sha-of-clips"),
            CLIPS_DONE,
            True,
            True,
            ("done", "its records were made from these very clips"),
        ),
        (row(source_version="sha-of-others"), CLIPS_DONE, True, False, ("stale", "its clips changed")),
        (row(source_version="sha-of-clips"), CLIPS_STALE, True, False, ("stale", "its clips are to be made first")),
        (None, CLIPS_STALE, True, False, ("new", "its clips are to be made first")),
        (None, CLIPS_NEW, True, False, ("new", "its clips are to be made first")),
        (None, CLIPS_DONE, False, False, ("unknown", "its labels are not settled yet")),
        (None, CLIPS_NEW, False, False, ("new", "its clips are to be made first")),
        (None, CLIPS_STALE, False, False, ("stale", "its clips are to be made first")),
    ],
)
def test_records_are_judged_by_their_clips_and_are_unknown_while_their_recipe_is(
    found, clips, known, elsewhere, expected
):
    state = judge_features(found, clips, known=known, elsewhere=elsewhere)
    assert (state.state, state.why) == expected


def states(raw: dict[int, ShardState], clips: dict[int, ShardState], features: dict[int, ShardState]) -> ShardStates:
    return ShardStates({"raw": raw, "clips": clips, "features": features})


DONE = ShardState("done", "present", row())


def test_what_is_to_be_done_is_named_with_its_reason():
    new = ShardState("new", "new")
    found = states({3: DONE}, {3: new}, {3: ShardState("new", "its clips are to be made first")})
    assert found.todo(3) == {"clips": "new", "features": "its clips are to be made first"}
    assert states({3: DONE}, {3: DONE}, {3: DONE}).todo(3) == {}
    assert "features" in states({3: DONE}, {3: DONE}, {3: ShardState("unknown", "open")}).todo(3)


def test_rejects_are_worth_another_try_only_of_clips_that_are_done():
    retryable = row(retryable_rejects=2, revision=4)
    done, stale = judge_clips(retryable, SOURCE, elsewhere=False), judge_clips(retryable, CHANGED, elsewhere=False)
    assert states({3: DONE}, {3: done}, {3: DONE}).retry_of(3) == 4
    assert states({3: DONE}, {3: stale}, {3: DONE}).retry_of(3) is None
    assert states({3: DONE}, {3: DONE}, {3: DONE}).retry_of(3) is None


def test_a_source_version_is_tried_three_times_at_most():
    tried = [judge_clips(row(retryable_rejects=1, tries=tries), SOURCE, elsewhere=False) for tries in (1, 2, 3)]
    assert [states({3: DONE}, {3: one}, {3: DONE}).retry_of(3) is None for one in tried] == [False, False, True]


def test_the_states_are_said_in_a_line_for_each_stage():
    new, recipe = ShardState("new", "new"), ShardState("stale", "made by another recipe")
    source = ShardState("stale", "the source changed", row())
    retryable = ShardState("done", "present", row(retryable_rejects=3))
    found = ShardStates(
        {
            "raw": dict.fromkeys(range(8), DONE),
            "clips": dict.fromkeys(range(2), new) | {2: recipe, 3: source, 4: source, 5: DONE, 6: retryable, 7: DONE},
            "features": dict.fromkeys(range(8), ShardState("unknown", "its labels are not settled yet")),
        },
        remarks=("the index was rebuilt",),
    )
    assert list(found.lines()) == [
        "raw: 8 done",
        "clips: 2 new (000000 000001), "
        "3 stale (000002 000003 000004: 2 the source changed; 1 made by another recipe), 3 done",
        "features: 8 unknown (000000 000001 000002 000003 000004 …: its labels are not settled yet)",
        "3 rejects of 1 shard may pass on another try: 000006",
        "the index was rebuilt",
    ]
    assert found.count("clips") == {"new": 2, "stale": 3, "done": 3}
