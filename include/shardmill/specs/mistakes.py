"""What is wrong with what was asked: every mistake at once, by field, in words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import ValidationError

from shardmill.specs.value import Spec

Asked = TypeVar("Asked", bound=Spec)
LONGEST_VALUE = 80
LONGEST_TEXT = 400
MOST_UNKNOWN = 20
"""Unknown fields that are named; of more, the number is told."""
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_]{1,60}")
_NAMED = re.compile(r"([a-z][a-z0-9_]*): (.*)", re.DOTALL)


@dataclass(frozen=True)
class Mistake:
    """A field that cannot be used: what was expected, and what was found."""

    field: str
    text: str
    fields: int = 1
    """How many fields it tells of."""

    def __str__(self) -> str:
        return f"{self.field}: {self.text}"


class MistakesError(ValueError):
    """What was asked cannot be used."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__("; ".join(map(str, mistakes)))
        self.mistakes = mistakes


def read_spec(spec: type[Asked], values: Mapping[str, Any]) -> Asked:
    """Make a spec of values.

    Raises:
        MistakesError: holds every field that is wrong or unknown, and fields that do not go together.
    """
    unknown = _unknown(spec, [name for name in values if name not in spec.model_fields])
    known = {name: value for name, value in values.items() if name in spec.model_fields}
    made, wrong = _try(spec, known)
    if unknown or made is None:
        raise MistakesError((*unknown, *wrong))
    return made


def _try(spec: type[Asked], values: Mapping[str, Any]) -> tuple[Asked | None, tuple[Mistake, ...]]:
    """Validate again with defaults in place of what was wrong, for what goes together is looked at last."""
    found: dict[str, Mistake] = {}
    aside: set[str] = set()
    made: Asked | None = None
    while made is None:
        left = {name: value for name, value in values.items() if name not in aside}
        try:
            made = spec.model_validate(left)
        except ValidationError as error:
            new = {one.field: one for one in _mistakes(spec, error) if one.field not in aside}
            if not new:
                break
            # A default that stands in for what was wrong goes well or badly with other fields by accident.
            found |= {name: one for name, one in new.items() if not _mentions(one.text, found)}
            aside |= set(new)
    return (None if found else made), tuple(found.values())


def _mentions(text: str, fields: Mapping[str, Any]) -> bool:
    return any(re.search(rf"\b{name}\b", text) for name in fields)


def _mistakes(spec: type[Spec], error: ValidationError) -> Iterator[Mistake]:
    properties = _properties(spec)
    for item in error.errors(include_url=False, include_context=True):
        told = item["msg"].removeprefix("Value error, ")
        field = ".".join(map(str, item["loc"]))
        if item["type"] == "value_error" and (named := _NAMED.fullmatch(told)) and named[1] in spec.model_fields:
            field, told = named[1], named[2]
        elif item["type"] != "value_error":
            told = f"expected {expected(properties.get(field, {}))}, found {shown(item['input'])}"
        yield Mistake(field, shortened(told, LONGEST_TEXT))


@lru_cache
def _properties(spec: type[Spec]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = spec.model_json_schema()["properties"]
    return found


def expected(schema: Mapping[str, Any]) -> str:
    """Say what a field takes, in words, from its JSON schema."""
    kind = schema.get("type")
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if kind == "boolean":
        return "true or false"
    if kind in ("integer", "number"):
        return _expected_number(schema)
    examples = schema.get("examples", ())
    told = f"text such as {' or '.join(map(str, examples[:2]))}" if examples else "text"
    return f"{told}, or nothing" if schema.get("default") == "" else told


def _expected_number(schema: Mapping[str, Any]) -> str:
    told = ["a whole number" if schema["type"] == "integer" else "a number"]
    bounds = {
        "minimum": "of at least",
        "exclusiveMinimum": "above",
        "maximum": "of at most",
        "exclusiveMaximum": "below",
    }
    told.append(" and ".join(f"{words} {schema[key]}" for key, words in bounds.items() if key in schema))
    if "multipleOf" in schema:
        told.append(f"in steps of {schema['multipleOf']}")
    return " ".join(filter(None, told))


def shown(value: Any) -> str:
    """Give a value as it may stand in a message: on one line, of a modest length, nothing hidden in it."""
    return shortened("nothing" if value is None else ascii(value) if isinstance(value, str) else repr(value))


def shortened(text: str, most: int = LONGEST_VALUE) -> str:
    """Cut a long text and say so."""
    return text if len(text) <= most else f"{text[: most - 20]}… ({len(text)} characters)"


def _unknown(spec: type[Spec], names: Sequence[Any]) -> tuple[Mistake, ...]:
    found = [_unknown_field(spec, name) for name in names[:MOST_UNKNOWN]]
    if (left := len(names) - len(found)) > 0:
        found.append(Mistake(f"{left} more unknown field{'s' * (left > 1)}", "not named here", left))
    return tuple(found)


def _unknown_field(spec: type[Spec], name: Any) -> Mistake:
    near = difflib.get_close_matches(str(name)[:100], spec.model_fields, n=1)
    hint = f"did you mean {near[0]}?" if near else f"expected some of {', '.join(spec.model_fields)}"
    called = name if isinstance(name, str) and _PLAIN_NAME.fullmatch(name) else shown(name)
    return Mistake(f"unknown field {called}", shortened(hint, LONGEST_TEXT))
