"""The values that a run froze in its folder of the lake."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import TypeVar

from shardmill.adapters.store import MissingObjectError, Store, StoreSettings, read_sealed, split_uri
from shardmill.core.planning import BadRequestError
from shardmill.specs.run import RunSpec
from shardmill.specs.run_kinds import Asked
from shardmill.specs.value import Sealed

Value = TypeVar("Value", bound=Sealed)
LONGEST_NAME = 63
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9._-]+")


def run_name(run_id: str) -> str:
    """Make a folder's name of a run id: small letters, digits, '.', '_' and '-'.

    An id that is no such name gets a hash of it at its end, for two ids must never become one run.
    """
    name = _NOT_IN_A_NAME.sub("-", run_id.lower()).strip("-._")
    if name == run_id and len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 9]}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}".lstrip("-._")


def begin(lake: Store, asked: Asked, name: str) -> RunSpec:
    """Freeze what a run asks under its name. Raises BadRequestError where one of this name asked something else."""
    run = RunSpec(run=name, started=datetime.now(UTC).isoformat(timespec="seconds"), asked=asked)
    frozen = freeze(lake, name, "spec.json", run)
    if frozen.asked != asked:
        fields = type(asked).model_fields
        changed = [field for field in fields if getattr(asked, field) != getattr(frozen.asked, field, None)]
        raise BadRequestError(
            f"the run {name} was planned with other values of {', '.join(changed)}: trigger a new run"
        )
    return frozen


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
