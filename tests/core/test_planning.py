from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardmill.core import planning
from shardmill.core.layout import manifest_key, revision_of, shard_number
from shardmill.specs.manifest import SourceObject
from shardmill.specs.mistakes import MistakesError, read_spec
from shardmill.specs.training import TrainSpec
from shardmill.specs.value import LONGEST_RANGE, parse_shard_range
from shardmill.specs.video_pipeline import VideoRun

FOUND = {number: SourceObject(uri=f"file:///s/x-{number:06d}.tar", size=10, version="v") for number in (0, 1, 5)}


def test_all_takes_every_shard_that_is_there():
    assert list(planning.choose_shards("all", FOUND, "file:///s")) == [0, 1, 5]


def test_a_range_takes_its_shards_each_once_and_in_order():
    assert list(planning.choose_shards("5,000000..000001,1", FOUND, "file:///s")) == [0, 1, 5]


def test_ranges_that_lie_over_each_other_are_taken_once():
    assert parse_shard_range("7..9,3,1..4,2..3,8,9..11") == (1, 2, 3, 4, 7, 8, 9, 10, 11)


def test_a_form_with_a_hostile_range_is_looked_at_in_no_time():
    text = "0..999999," * 999 + "0"
    started = time.process_time()
    read_spec(VideoRun, {"shards": text, "lake": "s3://lake"})
    assert time.process_time() - started < 0.5


def test_a_range_that_is_too_long_for_a_form_is_refused_by_its_length():
    with pytest.raises(MistakesError, match=f"shards: expected a range of at most {LONGEST_RANGE} characters"):
        read_spec(VideoRun, {"shards": "1," * LONGEST_RANGE + "1"})


def test_an_absent_shard_is_named_with_counts():
    with pytest.raises(
        planning.BadRequestError, match=r"3 asked for by '0\.\.2', 2 found, 1 absent at file:///s: 000002"
    ):
        planning.choose_shards("0..2", FOUND, "file:///s")


def test_a_source_without_shards_is_refused_with_its_count():
    with pytest.raises(planning.BadRequestError, match="0 found at file:///s"):
        planning.choose_shards("all", {}, "file:///s")


@pytest.mark.parametrize("text", ["", "a", "3..1", "1..", "-1", "1;2", "1234567"])
def test_what_is_no_range_is_refused(text):
    with pytest.raises(ValueError, match="range"):
        parse_shard_range(text)


@given(
    st.integers(0, 3000).flatmap(
        lambda count: st.integers(0, 10**12).map(lambda size: {n: size + n for n in range(count)})
    ),
    st.integers(1, 10**13),
)
def test_batches_hold_every_shard_once_in_order_and_are_never_too_many(shards, aim):
    batches = planning.batch_shards(shards, aim)
    assert [number for batch in batches for number in batch] == sorted(shards)
    assert len(batches) <= planning.MAX_BATCHES


def test_a_batch_is_closed_before_it_grows_above_its_aim():
    assert planning.batch_shards({0: 6, 1: 5, 2: 5, 3: 50, 4: 1}, 10) == [[0], [1, 2], [3], [4]]


def test_a_training_that_elephas_would_silently_skip_is_refused_by_field():
    asked = TrainSpec(trainer="elephas", workers=2, batch_size=32)
    with pytest.raises(planning.BadRequestError, match=r"batch_size: 32 training records on 2 workers are 16 each"):
        planning.check_enough_records({"train": 32, "validation": 4}, asked)
    planning.check_enough_records({"train": 34, "validation": 4}, asked)


@pytest.mark.parametrize("trainer", ["single", "local_sgd", "allreduce", "one_shot_average"])
def test_other_trainers_need_a_record_for_each_worker(trainer):
    asked = TrainSpec(trainer=trainer, workers=2, batch_size=16)
    planning.check_enough_records({"train": 2, "validation": 1}, asked)
    with pytest.raises(planning.BadRequestError, match="workers: 0 training records for"):
        planning.check_enough_records({"train": 0, "validation": 1}, asked)


def test_a_run_without_validation_records_is_refused_by_field():
    with pytest.raises(planning.BadRequestError, match="validation_share: 100 training and 0 validation records"):
        planning.check_enough_records({"train": 100}, TrainSpec())


def test_names_say_their_shard_and_revision():
    assert shard_number("yt8m-lo-000205.tar") == 205
    assert shard_number("yt8m-lo-205.tar") is None
    assert revision_of(manifest_key("clips/d/abc", 7, 12)) == 12
    assert revision_of("clips/d/abc/_manifests/000007/r012.json.tmp") is None


@pytest.mark.parametrize("asked", [{"mode": "hogwild"}, {"frequency": "batch"}])
def test_what_only_elephas_does_is_refused_of_another_trainer(asked):
    (field,) = asked
    with pytest.raises(
        planning.BadRequestError, match=rf"^{field}: only elephas has it, found .* for local_sgd: take trainer"
    ):
        planning.check_trainer(TrainSpec(**asked))
    planning.check_trainer(TrainSpec(trainer="elephas", **asked))
    planning.check_trainer(TrainSpec())


@pytest.mark.parametrize("asked", [{"trainer": "elephas"}, {"model": "video_level_dense"}, {"model": "own.net:build"}])
def test_bfloat16_is_refused_where_nothing_would_take_it(asked):
    with pytest.raises(planning.BadRequestError, match=r"^precision: only two_stream_bilstm and rgb_bilstm have bf"):
        planning.check_trainer(TrainSpec(precision="bfloat16", **asked))
    planning.check_trainer(TrainSpec(precision="bfloat16", model="rgb_bilstm"))
    planning.check_trainer(TrainSpec(precision="auto", **asked))
