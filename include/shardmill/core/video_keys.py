"""Keys of samples: they come from strangers, and name members of the shards that are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LONGEST = 1024
_LABEL_FIELDS = ("labels", "tags", "categories")


def printable(text: str) -> str:
    """Write a text so that it can be stored and shown: what is no valid Unicode or no printable character, escaped."""
    valid = text.encode("utf-8", "backslashreplace").decode()
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in valid[:_LONGEST])
    return "".join(shown)


def why_unsafe(key: str) -> str:
    """Say why a key cannot name a folder of a tar that somebody may unpack; empty where it can."""
    if not key or len(key) > _LONGEST:
        return f"expected a key of 1 to {_LONGEST} characters, found {len(key)}"
    if printable(key) != key:
        return "expected printable characters, found others"
    if any(piece in ("", ".", "..") for piece in key.split("/")) or "\\" in key:
        return "expected a key without empty, '.' and '..' pieces and without backslashes"
    return ""


def labels_of(info: Mapping[str, Any]) -> tuple[str, ...]:
    """Read labels from a video's .info.json: the first of `labels`, `tags`, `categories` that is a list of texts."""
    for name in _LABEL_FIELDS:
        found = info.get(name)
        if isinstance(found, list) and found and all(isinstance(label, str) for label in found):
            return tuple(dict.fromkeys(printable(label) for label in found))
    return ()
