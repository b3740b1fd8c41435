"""Trigger forms made from specs, and specs made from what was filled in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

from shardmill.specs.cluster_run import section_of, section_place
from shardmill.specs.mistakes import Mistake, MistakesError, read_spec
from shardmill.specs.value import Spec
from shardmill_airflow.channels import check_channels

Asked = TypeVar("Asked", bound=Spec)
_BOUNDS = ("enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "pattern", "maxLength")
_SHOWN = ("examples", "values_display")
_WORDS = {"rgb": "RGB", "usd": "USD", "id": "ID", "kms": "KMS", "emr": "EMR", "conf": "settings"}


def form_of(spec: type[Spec]) -> dict[str, Param]:
    """Make one form field for each field of a spec, with its section, help, bounds, examples and default."""
    properties = spec.model_json_schema()["properties"]
    # A field of one value only is no question.
    asked = {name: schema for name, schema in properties.items() if "const" not in schema}
    order = sorted(asked, key=lambda name: section_place(section_of(spec, name)))
    return {name: _param(title_of(spec, name), asked[name], section_of(spec, name)) for name in order}


def title_of(spec: type[Spec], name: str) -> str:
    """Give what a field is called in the form: its title, or its name in words."""
    if title := spec.model_fields[name].title:
        return title
    words = " ".join(_WORDS.get(word, word) for word in name.split("_"))
    return words[:1].upper() + words[1:]


def _param(title: str, schema: Mapping[str, Any], section: str) -> Param:
    told = {key: schema[key] for key in (*_BOUNDS, *_SHOWN) if key in schema}
    kind: Any = schema.get("type", "string")
    if schema["default"] == "":
        # An optional text: the form shows a field without an asterisk only where null is allowed too.
        kind = ["string", "null"]
    # The form shows help as it is, without a thought for Markdown.
    shown = " ".join(schema.get("description", "").replace("`", "'").split())
    return Param(schema["default"], type=kind, title=title, description=shown, section=section, **told)


def read_form(spec: type[Asked], params: Mapping[str, Any], conf: Mapping[str, Any] | None) -> Asked:
    """Make the spec of a run.

    Args:
        params: the values of the form.
        conf: what the run was triggered with; a field that the form does not have is refused.

    Raises:
        AirflowFailException: naming each wrong field, all of them; or a channel that cannot be used here.
    """
    asked = {name: params[name] for name in spec.model_fields if name in params}
    unknown = {name: value for name, value in (conf or {}).items() if name not in spec.model_fields}
    try:
        made = read_spec(spec, filled_in(asked) | unknown)
    except MistakesError as error:
        raise AirflowFailException(told(spec, error.mistakes)) from error
    check_channels(made)
    return made


def filled_in(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give the values of a form: a text that was left empty comes as null."""
    return {name: "" if value is None else value for name, value in values.items()}


def told(spec: type[Spec], mistakes: Iterable[Mistake]) -> str:
    """Say what is wrong with a form, a line a field, and where in the form the field stands."""
    found = tuple(mistakes)
    lines = [f"{one}{_where(spec, one.field)}" for one in found]
    many = sum(one.fields for one in found)
    count = "1 field" if many == 1 else f"{many} fields"
    return "\n- ".join([f"{count} to be mended, and nothing was started:", *lines])


def _where(spec: type[Spec], name: str) -> str:
    return f" (in the form: {section_of(spec, name)}, {title_of(spec, name)})" if name in spec.model_fields else ""
