"""Trigger forms made from specs, and specs made from what was filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException
from pydantic import ValidationError

from shardmill.specs.cluster_run import section_of
from shardmill.specs.value import Spec

Asked = TypeVar("Asked", bound=Spec)
_BOUNDS = ("enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "pattern")


def form_of(spec: type[Spec]) -> dict[str, Param]:
    """Make one form field for each field of a spec, with its section, help, bounds and default."""
    properties = spec.model_json_schema()["properties"]
    # A field of one value only is no question.
    asked = {name: schema for name, schema in properties.items() if "const" not in schema}
    return {name: _param(name, schema, section_of(spec, name)) for name, schema in asked.items()}


def _param(name: str, schema: Mapping[str, Any], section: str) -> Param:
    limits = {key: schema[key] for key in _BOUNDS if key in schema}
    kind: Any = schema.get("type", "string")
    if schema["default"] == "":
        # An optional text: the form shows a field without an asterisk only where null is allowed too.
        kind = ["string", "null"]
    return Param(
        schema["default"],
        type=kind,
        title=name.replace("_", " ").capitalize(),
        description=schema.get("description", ""),
        section=section,
        **limits,
    )


def read_form(spec: type[Asked], params: Mapping[str, Any], conf: Mapping[str, Any] | None) -> Asked:
    """Make the spec of a run.

    Args:
        params: the values of the form.
        conf: what the run was triggered with; a field that the form does not have is refused.

    Raises:
        AirflowFailException: naming each wrong field.
    """
    unknown = sorted(set(conf or {}) - set(spec.model_fields))
    if unknown:
        raise AirflowFailException(
            f"unknown field {', '.join(unknown)}: expected some of {', '.join(spec.model_fields)}"
        )
    values = {name: "" if params[name] is None else params[name] for name in spec.model_fields if name in params}
    try:
        return spec.model_validate(values)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise AirflowFailException(wrong) from error
