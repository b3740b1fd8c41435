"""A sealed value that several writers change: none loses what another one wrote."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from shardmill.adapters.store import (
    ChangedObjectError,
    DamagedObjectError,
    MissingObjectError,
    ObjectInfo,
    Store,
    StoreError,
    read_sealed_bytes,
)
from shardmill.specs.value import Sealed

TRIES = 20
"""Others may be faster so many times one after the other; each such time one of them was done."""

_PAUSE_SECONDS, _MOST_PAUSE_SECONDS = 0.005, 0.5
"""At most, before the second try and before any: twice as long each time, and drawn, so that writers part."""

Value = TypeVar("Value", bound=Sealed)


def change(lake: Store, key: str, kind: type[Value], make: Callable[[Value | None], Value]) -> tuple[Value, str]:
    """Read a value, make another one of it, and write that unless somebody wrote meanwhile; then begin anew.

    Args:
        lake: where it lies.
        key: its key.
        kind: its class.
        make: gives the new value; of None where there is none, or a damaged one. It may be called several times.

    Returns:
        The value as it was written, and what was wrong with the one before it; nothing where nothing was.

    Raises:
        StoreError: it cannot be read or written.
    """
    for number in range(TRIES):
        if number:
            time.sleep(random.uniform(0, min(_PAUSE_SECONDS * 2**number, _MOST_PAUSE_SECONDS)))  # noqa: S311
        place = lake.head(key)
        try:
            before, wrong = _read(lake, key, kind, place)
        except (ChangedObjectError, MissingObjectError):
            continue
        after = make(before)
        if lake.swap(key, after.to_json(), place):
            return after, wrong
    raise StoreError(f"{lake.uri_of(key)} was written by others {TRIES} times in a row: try again")


def _read(lake: Store, key: str, kind: type[Value], place: ObjectInfo | None) -> tuple[Value | None, str]:
    if place is None:
        return None, ""
    try:
        return read_sealed_bytes(lake, key, kind)[0], ""
    except DamagedObjectError as error:
        return None, str(error)
