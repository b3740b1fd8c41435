"""Read values that carry their own SHA-256."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from shardmill.adapters.store.errors import DamagedObjectError
from shardmill.adapters.store.store import Store
from shardmill.specs.value import Sealed, SealError

READS = 3
"""Times that a sealed object is read before it counts as damaged: a byte may flip on the way."""

Value = TypeVar("Value", bound=Sealed)


def read_sealed(store: Store, key: str, kind: type[Value]) -> Value:
    """Read a sealed value. Raises MissingObjectError, and DamagedObjectError where it stays damaged."""
    return read_sealed_bytes(store, key, kind)[0]


def read_sealed_bytes(store: Store, key: str, kind: type[Value]) -> tuple[Value, bytes]:
    """Read a sealed value and the bytes that it lies in, which a later version would write otherwise."""
    for _ in range(READS):
        try:
            content = store.get(key)
            return kind.from_json(content), content
        except (SealError, ValidationError) as error:
            cause = error
    raise DamagedObjectError(f"{store.uri_of(key)}: {cause}") from cause
