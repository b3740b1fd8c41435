"""What the trigger forms show, and what they say of mistakes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from dags.form_lab import forms

from shardmill.specs.mistakes import MistakesError, read_spec
from shardmill.specs.value import SECTIONS

PROJECT = Path(__file__).resolve().parents[2]
UNITS = {
    "seconds": "second",
    "minutes": "minute",
    "hours": "hour",
    "mb": "MB",
    "gib": "GiB",
    "usd": "USD",
    "share": "share",
    "epochs": "epoch",
    "width": "pixel",
    "height": "pixel",
}


@pytest.fixture(scope="module")
def dags(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
    patch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    patch.setenv("AIRFLOW__CORE__PLUGINS_FOLDER", str(PROJECT / "plugins"))
    from airflow.dag_processing.dagbag import DagBag

    yield DagBag(str(PROJECT / "dags")).dags
    patch.undo()


@pytest.fixture(scope="module")
def fields(dags):
    """Every field of every form: DAG, spec, name, and the parameter that Airflow shows."""
    found = [
        (f"{dag_id}.{name}", spec, name, dags[dag_id].params.get_param(name))
        for dag_id, spec in forms(dags).items()
        for name in dags[dag_id].params
    ]
    assert len(found) > 100
    return found


def test_every_field_has_help_a_title_and_one_of_the_sections(fields):
    for where, _, _, param in fields:
        assert param.description, where
        assert param.schema["title"], where
        assert param.schema["section"] in SECTIONS, where


def test_sections_come_in_one_order_and_each_once(dags):
    for dag_id in forms(dags):
        found = [
            param.schema["section"] for param in (dags[dag_id].params.get_param(one) for one in dags[dag_id].params)
        ]
        assert found == sorted(found, key=SECTIONS.index), dag_id
        assert found[0] == "What" and found[-1] == "Notify", dag_id


def test_a_field_with_a_unit_names_it_in_its_title(fields):
    for where, _, name, param in fields:
        for word in UNITS.keys() & set(name.split("_")):
            if param.schema["type"] in ("number", "integer"):
                assert UNITS[word].lower() in f"{param.schema['title']}".lower(), where


def test_every_number_has_bounds_on_both_sides(fields):
    for where, _, _, param in fields:
        if param.schema["type"] in ("number", "integer"):
            assert {"minimum", "exclusiveMinimum"} & set(param.schema), where
            assert {"maximum", "exclusiveMaximum"} & set(param.schema), where


def test_names_of_values_belong_to_values_that_there_are(fields):
    for where, _, _, param in fields:
        assert set(param.schema.get("values_display", ())) <= set(param.schema.get("enum", ())), where


def test_text_of_a_certain_form_comes_with_examples_that_are_right(fields):
    for where, spec, name, param in fields:
        assert "pattern" not in param.schema or param.schema.get("examples"), where
        for example in param.schema.get("examples", ()):
            try:
                read_spec(spec, ({"nodes": "fleets"} if "nodes" in spec.model_fields else {}) | {name: example})
            except MistakesError as error:
                assert name not in {mistake.field for mistake in error.mistakes}, where


def test_the_defaults_of_every_form_make_its_spec(dags):
    from shardmill_airflow.forms import read_form

    for dag_id, spec in forms(dags).items():
        assert read_form(spec, dags[dag_id].params.validate(), {}) == spec(), dag_id


def test_all_mistakes_are_told_at_once_in_words_and_where_they_stand_in_the_form(dags):
    from airflow.sdk.exceptions import AirflowFailException

    from shardmill.specs.video_pipeline import VideoPipelineSpec
    from shardmill_airflow.forms import read_form

    conf = {"clip_seconds": 0, "width": 17, "trainer": "sgd", "core_type": "m5; id", "dry_run": "maybe", "dataste": "x"}
    with pytest.raises(AirflowFailException) as failed:
        read_form(VideoPipelineSpec, dags["video_pipeline"].params.dump() | conf | {"fused": True}, conf)
    message = str(failed.value)
    assert message.splitlines()[0] == "7 fields to be mended, and nothing was started:"
    for line in (
        "clip_seconds: expected a number above 0 and of at most 60, found 0 (in the form: Split, Clip length (sec",
        "width: expected a whole number of at least 16 and of at most 4096 in steps of 2, found 17 ",
        "trainer: expected one of single, local_sgd, allreduce, one_shot_average, elephas, found 'sgd' ",
        "core_type: expected text such as m5.xlarge or g4dn.xlarge, found 'm5; id' (in the form: Where, Core node t",
        "dry_run: expected true or false, found 'maybe' ",
        "fused: needs a label table (`labels`), ",
        "unknown field dataste: did you mean dataset?",
    ):
        assert f"- {line}" in message
    assert not re.search("pydantic|Value error|Input should", message)


def test_fields_that_do_not_go_together_are_told_once_what_they_rest_on_is_right():
    from shardmill.specs.video_pipeline import VideoPipelineSpec

    with pytest.raises(MistakesError) as failed:
        read_spec(VideoPipelineSpec, {"core_type": "?", "spot_types": "m5.xlarge", "fused": True})
    assert {mistake.field for mistake in failed.value.mistakes} == {"core_type", "fused"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_limit_that_limits_nothing_is_refused(value):
    from shardmill.specs.video_pipeline import VideoPipelineSpec

    for name in ("max_usd", "max_hours", "notify_after_hours"):
        with pytest.raises(MistakesError, match=f"{name}: expected a number"):
            read_spec(VideoPipelineSpec, {name: value})


def test_a_mistake_shows_a_long_or_hidden_value_shortened_and_in_plain_letters():
    from shardmill.specs.video_pipeline import VideoPipelineSpec

    with pytest.raises(MistakesError) as failed:
        read_spec(VideoPipelineSpec, {"owner": "\u202e\x1b" * 50_000, "source": "\u202e" * 100_000})
    assert all(len(mistake.text) < 450 and mistake.text.isprintable() for mistake in failed.value.mistakes)
