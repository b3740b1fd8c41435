from __future__ import annotations

import json

import pytest

from shardmill import stages
from shardmill.adapters import lake as commits
from shardmill.adapters.store import ChangedObjectError
from shardmill.core.planning import BadRequestError
from shardmill.jobs.label import TABLE
from shardmill.jobs.plan import plan_run
from shardmill.jobs.sample import make_sample
from shardmill.specs.value import canonical_json
from shardmill.specs.video_pipeline import VideoPipelineSpec


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages") / "sample"
    make_sample(folder, videos=6, shards=3, seconds=(2, 3))
    return folder


@pytest.fixture
def opened(sample, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for path in sample.glob("*.tar"):
        (source / path.name).write_bytes(path.read_bytes())
    asked = VideoPipelineSpec(
        source=f"file://{source}",
        lake=f"file://{tmp_path / 'lake'}",
        preset="ultrafast",
        width=64,
        height=32,
        max_reject_share=0.5,
    )
    return stages.open_run(plan_run(asked, "run").spec_uri)


def test_one_bad_shard_does_not_keep_the_others_of_its_batch_from_being_done(opened, tmp_path):
    (tmp_path / "source" / "sample-000001.tar").write_bytes(b"other bytes")
    lines: list[str] = []
    with pytest.raises(ChangedObjectError, match="sample-000001"):
        stages.ingest(opened, (0, 1, 2), lines.append)
    taken = [shard for shard in range(3) if commits.latest_revision(opened.lake, "raw", "sample", "", shard)]
    assert taken == [0, 2]
    assert any(line.startswith("shard 000001 failed: ChangedObjectError") for line in lines)


def test_what_another_try_may_mend_is_raised_before_what_it_cannot():
    def work(shard: int):
        raise (BadRequestError, ConnectionError, OSError)[shard](str(shard))

    with pytest.raises(ConnectionError):
        stages._each((0, 1, 2), work, lambda line: None)


def test_labels_that_changed_between_two_tries_are_refused_and_never_half_taken(opened):
    for stage in ("ingest", "split"):
        stages.STAGES[stage](opened, opened.plan.numbers, lambda line: None)
    # A try that was killed behind its table, when the videos had other labels.
    opened.lake.put_new(f"runs/run/{TABLE}", canonical_json({"somebody": ["else"]}))
    with pytest.raises(BadRequestError, match="changed since this run read them first"):
        stages.label(opened, opened.plan.numbers, lambda line: None)
    assert json.loads(opened.lake.get(f"runs/run/{TABLE}")) == {"somebody": ["else"]}
