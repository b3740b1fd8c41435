"""A run's record says of which kind it is; records of runs from before there were kinds are read as they were."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from shardmill.specs.run import RunSpec
from shardmill.specs.run_kinds import OtherPipelineError
from shardmill.specs.shard_runs import NightlySpec
from shardmill.specs.train_on_records import TrainOnRecordsSpec
from shardmill.specs.value import canonical_json
from shardmill.specs.video_pipeline import VideoPipelineSpec


def run(asked: VideoPipelineSpec | TrainOnRecordsSpec | NightlySpec) -> RunSpec:
    return RunSpec(run="r", started="2026-11-21T00:00:00+00:00", asked=asked)


@pytest.mark.parametrize("asked", [VideoPipelineSpec(epochs=3), TrainOnRecordsSpec(epochs=3, classes=10)])
def test_a_run_of_either_kind_comes_back_as_it_was_written(asked):
    found = RunSpec.from_json(run(asked).to_json())
    assert found == run(asked)
    assert type(found.asked) is type(asked)
    assert found.asked.training.epochs == 3


def test_a_record_that_names_no_kind_is_one_of_the_video_pipeline():
    asked = {"source": "s3://b/x", "lake": "s3://lake", "epochs": 7, "mode": "hogwild", "clip_seconds": 4.0}
    old = canonical_json({"run": "r", "started": "2026-11-01T00:00:00+00:00", "asked": asked})
    found = RunSpec.from_json(old)
    assert found.pipeline == "video_pipeline"
    assert (found.video.clip_seconds, found.asked.epochs, found.asked.mode) == (4.0, 7, "hogwild")
    assert found.asked.trainer == found.asked.training.trainer == "elephas", "there was no other"
    assert b"pipeline" not in json.dumps(json.loads(run(VideoPipelineSpec()).to_json())).encode()


@pytest.mark.parametrize("asked", [VideoPipelineSpec(), TrainOnRecordsSpec()])
def test_a_record_that_is_written_now_names_its_trainer(asked):
    assert json.loads(run(asked).to_json())["asked"]["trainer"] == "local_sgd"
    assert RunSpec.from_json(run(asked).to_json()).asked.trainer == "local_sgd"


def test_what_only_another_kind_of_run_has_is_refused_with_both_names():
    with pytest.raises(OtherPipelineError, match="begins with videos, r is one of train_on_records"):
        _ = run(TrainOnRecordsSpec()).video
    with pytest.raises(OtherPipelineError, match="of the video pipeline, r is one of nightly_reprocess"):
        _ = run(NightlySpec()).video_pipeline
    with pytest.raises(OtherPipelineError, match="expected a run that trains, r is one of nightly_reprocess"):
        _ = run(NightlySpec()).on_cluster
    with pytest.raises(OtherPipelineError, match="expected a run of train_on_records, r is one of video_pipeline"):
        _ = run(VideoPipelineSpec()).on_records


def test_a_run_of_a_night_comes_back_as_it_was_written_and_names_no_trainer():
    found = RunSpec.from_json(run(NightlySpec(max_shards=7)).to_json())
    assert found == run(NightlySpec(max_shards=7))
    assert type(found.asked) is NightlySpec and found.pipeline == "nightly_reprocess"
    assert found.video.retry_rejects
    assert "trainer" not in json.loads(run(NightlySpec()).to_json())["asked"]


@pytest.mark.parametrize("asked", [{"pipeline": "other"}, {"pipeline": "train_on_records", "shards": "all"}])
def test_a_kind_that_is_not_known_or_has_other_fields_is_refused(asked):
    with pytest.raises(ValidationError):
        RunSpec.model_validate({"run": "r", "started": "now", "asked": asked})


def test_both_kinds_have_what_a_cluster_needs():
    for asked in (VideoPipelineSpec(), TrainOnRecordsSpec()):
        made = run(asked)
        assert made.folder == "s3://shardmill-lake/runs/r"
        assert made.asked.training.workers == made.asked.workers
