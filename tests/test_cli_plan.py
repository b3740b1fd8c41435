from __future__ import annotations

import json

import pytest
from pydantic import TypeAdapter

from shardmill.cli import main
from shardmill.jobs.sample import make_sample
from shardmill.specs.run_kinds import SPECS, Asked, pipeline_of


@pytest.fixture
def refused(tmp_path, capsys):
    """Ask for something that cannot be done; give what is said about it, line by line, without the file's name."""

    def ask(content: str | dict[str, object], job: str = "plan") -> list[str]:
        path = tmp_path / "asked.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        assert main([job, str(path), *(("--run", "r1") if job == "plan" else ())]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        return [line.removeprefix(f"{path}: ") for line in said.err.splitlines()]

    return ask


def test_every_wrong_field_of_a_file_is_told_at_once_and_in_words(refused, tmp_path):
    asked = {"lake": f"file://{tmp_path / 'lake'}", "epoch": 3, "workers": "two", "clip_seconds": -1}
    told = refused(asked)
    assert told[0] == "unknown field epoch: did you mean epochs?"
    assert any(line.startswith("workers: expected a whole number of at least 1") for line in told)
    assert any(
        line.startswith("clip_seconds: expected a number above 0") and line.endswith("found -1") for line in told
    )
    assert len(told) == 3
    assert not (tmp_path / "lake").exists()


def test_an_unknown_kind_of_run_is_told_with_those_that_there_are(refused):
    assert refused({"pipeline": "videos"}) == [
        "pipeline: expected one of video_pipeline, train_on_records, nightly_reprocess, backfill_shards, found 'videos'"
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [("{", "expected a JSON object of fields: "), ("[]", "expected a JSON object of fields, found a list")],
)
def test_a_file_that_holds_no_fields_is_refused(refused, content, told):
    assert refused(content)[0].startswith(told)


def test_a_file_that_is_not_there_is_told(tmp_path, capsys):
    assert main(["plan", str(tmp_path / "none.json"), "--run", "r1"]) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'none.json'}: it cannot be read: No such file or directory\n"


def test_a_source_without_shards_is_told_in_a_line(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    asked = {"source": f"file://{tmp_path / 'empty'}", "lake": f"file://{tmp_path / 'lake'}"}
    assert len(refused(asked)) == len(refused(asked, "survey")) == 1


def test_a_survey_of_records_is_refused_by_its_field(refused, tmp_path):
    asked = {"pipeline": "train_on_records", "lake": f"file://{tmp_path / 'lake'}"}
    assert refused(asked, "survey") == [
        "pipeline: expected video_pipeline, found train_on_records: take `shardmill plan`"
    ]


def test_a_garbage_collection_tells_all_its_mistakes_and_deletes_nothing(tmp_path, capsys):
    lake = f"file://{tmp_path}"
    asked = ["collect-garbage", lake, "--older-than-hours", "0", "--keep-recipes", "-1", "--recipe", "x", "--delete"]
    assert main(asked) == 2
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in told] == ["older_than_hours", "keep_recipes", "recipes"]
    assert told[0].startswith("older_than_hours: expected a number of at least 1")


def test_a_budget_that_is_too_small_is_told_in_a_line(refused, tmp_path):
    make_sample(tmp_path / "raw", videos=2, shards=1, seconds=(2, 3))
    (tmp_path / "labels.csv").write_text("video_id,labels\nsomeone,a\n")
    places = {"source": tmp_path / "raw", "labels": tmp_path / "labels.csv", "lake": tmp_path / "lake"}
    asked = {name: path.as_uri() for name, path in places.items()}
    (told,) = refused({"pipeline": "backfill_shards", "max_usd": 1e-9, **asked})
    assert told.startswith("max_usd: ")
    assert "allowed are 0.00 USD" in told


def test_every_kind_of_run_that_can_be_planned_has_its_spec_by_name():
    for name, spec in SPECS.items():
        assert pipeline_of(spec()) == name
    assert {
        type(TypeAdapter(Asked).validate_python({"pipeline": name} if name != "video_pipeline" else {}))
        for name in SPECS
    } == set(SPECS.values())
