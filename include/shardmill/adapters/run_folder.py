"""The values that a run froze in its folder of the lake."""

from __future__ import annotations

from typing import TypeVar

from shardmill.adapters.store import MissingObjectError, Store, StoreSettings, read_sealed, split_uri
from shardmill.specs.run import RunSpec
from shardmill.specs.value import Sealed

Value = TypeVar("Value", bound=Sealed)


def load_run(spec_uri: str, settings: StoreSettings | None = None) -> RunSpec:
    """Read the record of a run by the URI of its ``spec.json``."""
    folder, name = split_uri(spec_uri)
    return read_sealed(Store(folder, settings), name, RunSpec)


def run_key(run: str, name: str) -> str:
    """Give the key of a file in a run's folder."""
    return f"runs/{run}/{name}"


def load(lake: Store, run: str, name: str, kind: type[Value]) -> Value:
    """Read a frozen value, e.g. ``plan.json``. Raises MissingObjectError."""
    return read_sealed(lake, run_key(run, name), kind)


def find(lake: Store, run: str, name: str, kind: type[Value]) -> Value | None:
    """Read a frozen value; None where the run did not come so far."""
    try:
        return load(lake, run, name, kind)
    except MissingObjectError:
        return None


def freeze(lake: Store, run: str, name: str, value: Value) -> Value:
    """Write a value unless the run froze one before; give the frozen one."""
    lake.put_new(run_key(run, name), value.to_json())
    return load(lake, run, name, type(value))
