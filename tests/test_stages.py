from __future__ import annotations

import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from shardmill import stages
from shardmill.adapters import lake as commits
from shardmill.adapters.records import read_records
from shardmill.adapters.store import ChangedObjectError
from shardmill.core.planning import BadRequestError
from shardmill.jobs.label import TABLE
from shardmill.jobs.plan import plan_run
from shardmill.jobs.sample import make_sample
from shardmill.specs.value import canonical_json
from shardmill.specs.video_pipeline import VideoPipelineSpec
from shardmill.stages.outcomes import each


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
        each((0, 1, 2), work, lambda line: None)


def test_labels_that_changed_between_two_tries_are_refused_and_never_half_taken(opened):
    for stage in ("ingest", "split"):
        stages.STAGES[stage](opened, opened.plan.numbers, lambda line: None)
    # A try that was killed behind its table, when the videos had other labels.
    opened.lake.put_new(f"runs/run/{TABLE}", canonical_json({"somebody": ["else"]}))
    with pytest.raises(BadRequestError, match="changed since this run read them first"):
        stages.label(opened, opened.plan.numbers, lambda line: None)
    assert json.loads(opened.lake.get(f"runs/run/{TABLE}")) == {"somebody": ["else"]}


def labelled_run(sample, folder, name, **asked):
    """A run of the sample with a label table, its first two stages done."""
    labels = folder / "labels.csv"
    rows = []
    for path in sorted(sample.glob("*.tar")):
        with tarfile.open(path) as tar:
            keys = {member.name.partition(".")[0] for member in tar}
        rows += [f"{key},{'one' if number % 2 else 'two'}" for number, key in enumerate(sorted(keys))]
    labels.write_text("video_id,labels\n" + "\n".join(rows) + "\n")
    spec = VideoPipelineSpec(
        source=f"file://{sample}",
        lake=f"file://{folder / name}",
        labels=f"file://{labels}",
        preset="ultrafast",
        max_reject_share=0.5,
        **asked,
    )
    opened = stages.open_run(plan_run(spec, "run").spec_uri)
    lines: list[str] = []
    for stage in ("ingest", "split"):
        stages.STAGES[stage](opened, opened.plan.numbers, lines.append)
    return opened, lines


def records_of(opened):
    """Every record of the run, by video."""
    asked = opened.run.asked
    found = {}
    for shard in opened.plan.numbers:
        recipe = asked.feature_recipe(opened.labels.digest)
        manifest = commits.latest_revision(opened.lake, "features", asked.dataset, recipe.hash, shard).manifest
        for part in manifest.parts:
            for record in read_records(opened.lake.get(part.name), part.name):
                found[record.id] = record
    return found


def test_a_fused_split_makes_the_records_that_the_stages_make_one_after_the_other(sample, tmp_path):
    fused, lines = labelled_run(sample, tmp_path, "fused", fused=True)
    assert sum("records (new)" in line for line in lines) == 3
    apart, _ = labelled_run(sample, tmp_path, "apart")
    for opened in (fused, apart):
        told: list[str] = []
        for stage in ("label", "features"):
            stages.STAGES[stage](opened, opened.plan.numbers, told.append)
        assert ("nothing to do, all present" in told[-1]) == (opened is fused)
    one, other = records_of(fused), records_of(apart)
    assert list(one) == list(other)
    assert one
    for video, record in one.items():
        for made, expected in ((record.rgb, other[video].rgb), (record.audio, other[video].audio)):
            assert made.shape == expected.shape
            assert np.abs(made.astype(int) - expected.astype(int)).max() <= 1
        assert record.labels == other[video].labels


def test_a_fused_split_that_was_killed_makes_the_records_of_what_it_finds_cut(sample, tmp_path, monkeypatch):
    from shardmill.jobs import features

    class KilledError(Exception):
        pass

    def killed(*arguments, **options):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(features, "featurize_shard", killed)
        with pytest.raises(KilledError):
            labelled_run(sample, tmp_path, "fused", fused=True)
    fused = stages.open_run(f"file://{tmp_path}/fused/runs/run/spec.json")
    lines: list[str] = []
    stages.split(fused, fused.plan.numbers, lines.append)
    assert sum("nothing to do" in line for line in lines) >= 1, "the clips were there"
    assert sum("records (new)" in line for line in lines) == 3


def test_a_fused_run_without_a_label_table_is_refused_by_field():
    with pytest.raises(ValueError, match="fused: needs a label table"):
        VideoPipelineSpec(fused=True)


def test_how_far_a_split_is_is_shown_where_people_look(opened, monkeypatch):
    from shardmill.jobs.split import progress

    monkeypatch.setattr(progress, "SECONDS_BETWEEN", 0.0)
    shown: list[str] = []
    watched = replace(opened, show=shown.append)
    for stage in ("ingest", "split"):
        stages.STAGES[stage](watched, opened.plan.numbers, lambda line: None)
    assert shown
    assert all("clips/s" in line and " MB" in line for line in shown)
