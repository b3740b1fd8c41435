"""The values that a run froze in its folder of the lake."""

from __future__ import annotations

from typing import TypeVar

from shardmill.adapters.store import MissingObjectError, Store, StoreSettings, read_uri
from shardmill.specs.run import RunSpec
from shardmill.specs.value import Spec

Value = TypeVar("Value", bound=Spec)


def load_run(spec_uri: str, settings: StoreSettings | None = None) -> RunSpec:
    """Read the record of a run by the URI of its ``spec.json``."""
    return RunSpec.model_validate_json(read_uri(spec_uri, settings))


def run_key(run: str, name: str) -> str:
    """Give the key of a file in a run's folder."""
    return f"runs/{run}/{name}"


def load(lake: Store, run: str, name: str, kind: type[Value]) -> Value:
    """Read a frozen value, e.g. ``plan.json``. Raises MissingObjectError."""
    return kind.model_validate_json(lake.get(run_key(run, name)))


def find(lake: Store, run: str, name: str, kind: type[Value]) -> Value | None:
    """Read a frozen value; None where the run did not come so far."""
    try:
        return load(lake, run, name, kind)
    except MissingObjectError:
        return None


def freeze(lake: Store, run: str, name: str, value: Value) -> Value:
    """Write a value unless the run froze one before; give the frozen one."""
    lake.put_new(run_key(run, name), value.model_dump_json(indent=1).encode())
    return load(lake, run, name, type(value))
