"""What every spec is made of: a frozen value, and the field types that specs share."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

SCHEMES = ("s3", "gs", "file")
LONGEST_URI = 1100
"""Characters; S3 takes keys of 1024 bytes."""
LONGEST_RANGE = 10_000
"""Characters of a range of shards in a form."""
SECTIONS = ("What", "Data", "Mirror", "Split", "Features", "Where", "Train", "Guards", "Notify")
"""Of the trigger forms, in their order."""
_PLAIN = re.compile(r"[A-Za-z0-9._~/=+,-]+")
_RANGE_ITEM = re.compile(r"(\d{1,6})(?:\.\.(\d{1,6}))?")


class Spec(BaseModel):
    """A frozen value; an unknown field is an error, the docstring under a field is its help."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def in_section(section: str, default: Any, *, names: Mapping[str, str] | None = None, **bounds: Any) -> Any:
    """Make a field that stands in a section of the trigger form.

    Args:
        names: what the values of an enumeration are called in the form.
        bounds: what ``pydantic.Field`` takes: bounds, ``title`` where the name lacks a unit, ``examples``.
    """
    return Field(default, json_schema_extra={"section": section, **named(names)}, **bounds)


def named(names: Mapping[str, str] | None) -> dict[str, Any]:
    """Give what a field's schema holds for the names that its values have in the form."""
    return {"values_display": dict(names)} if names else {}


def _check_uri(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in SCHEMES or not rest.strip("/"):
        raise ValueError(f"expected s3://…, gs://… or file://…, found {text!r}")
    if len(text) > LONGEST_URI:
        raise ValueError(f"expected a URI of at most {LONGEST_URI} characters, found {len(text)}")
    if not text.isprintable():
        raise ValueError(f"expected a URI without control characters and marks that hide or turn text, found {text!r}")
    if ".." in rest.split("/") or (scheme != "file" and "@" in rest.split("/")[0]):
        raise ValueError(f"expected a URI without '..' and without user names, found {text!r}")
    return text.rstrip("/")


def _check_lake(text: str) -> str:
    """Take letters, digits and few marks only: what lies in a lake is named in commands of a cluster's nodes."""
    uri = _check_uri(text)
    scheme, _, rest = uri.partition("://")
    if scheme != "file" and _PLAIN.fullmatch(rest) is None:
        raise ValueError(f"expected a folder named by letters, digits and . _ ~ = + , - / only, found {text!r}")
    return uri


def parse_shard_range(text: str) -> tuple[int, ...] | None:
    """Read a range such as ``000000..000099,000205``; ``all`` gives None.

    Returns:
        The shard numbers, ascending and each once.

    Raises:
        ValueError: where the text is no range, or names no shard.
    """
    if text.strip() == "all":
        return None
    numbers: list[int] = []
    for first, last in sorted(_spans(text)):
        begin = max(first, numbers[-1] + 1) if numbers else first
        numbers.extend(range(begin, last + 1))
    return tuple(numbers)


def _spans(text: str) -> list[tuple[int, int]]:
    """Read the items of a range: the first and the last number of each."""
    found = []
    for item in text.split(","):
        match = _RANGE_ITEM.fullmatch(item.strip())
        if match is None:
            raise ValueError(f"expected 'all' or a range such as 000000..000099,000205, found {text!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"the range {item.strip()!r} is empty: it ends before it starts")
        found.append((first, last))
    return found


def _check_shard_range(text: str) -> str:
    if len(text) > LONGEST_RANGE:
        raise ValueError(f"expected a range of at most {LONGEST_RANGE} characters, found {len(text)}")
    if text.strip() != "all":
        _spans(text)
    return text.strip()


Uri = Annotated[str, AfterValidator(_check_uri)]
LakeUri = Annotated[str, AfterValidator(_check_lake), Field(examples=["s3://my-lake/shardmill"])]
OptionalUri = Annotated[str, AfterValidator(lambda text: _check_uri(text) if text else "")]
ShardRange = Annotated[str, AfterValidator(_check_shard_range)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$", examples=["sample", "yt8m-2026.11"])]


def canonical_json(value: Any) -> bytes:
    """Give the one JSON text of a value: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def short_hash(value: Any) -> str:
    """Give the first 12 hex digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()[:12]


class SealError(ValueError):
    """A sealed text is not, byte by byte, what was written."""


class Sealed(Spec):
    """A value that is stored as JSON that ends in the SHA-256 of the rest, so that a changed byte is noticed."""

    def to_json(self) -> bytes:
        """Write the value: canonical JSON, its ``sha256`` last."""
        return _seal(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read a value. Raises SealError where any byte is not as it was written.

        What was written before there were seals is taken as it is; no damage of a single byte makes a seal vanish.
        """
        try:
            found = json.loads(content)
            value = {name: value for name, value in found.items() if name != "sha256"}
            sealed = _seal(value)
        except (ValueError, AttributeError, RecursionError) as error:
            raise SealError(f"expected JSON of a {cls.__name__}, found {content[:40]!r}…: {error}") from error
        if "sha256" in found and sealed != content:
            raise SealError(f"the sha256 of this {cls.__name__} is not that of its content: it was damaged or changed")
        return cls.model_validate(value)


def _seal(value: Any) -> bytes:
    body = canonical_json(value)
    return body[:-1] + f',"sha256":"{hashlib.sha256(body).hexdigest()}"}}'.encode()
